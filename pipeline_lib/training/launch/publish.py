"""A trainer's result as datasets: the model, which settings that decide nothing do not change, and grids of samples.

Sample grids are painted, and checkpoints of milestones kept, while a model trains. They decide no byte of it, so they
are in neither its key nor its files: the grids are a dataset of their own, of the stage "samples", and the checkpoints
go with the run's folder. Whoever asks for more of them when the model is there gets the model, and the log says what
there is not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline_lib import __version__
from pipeline_lib.core import code
from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import TrainingError
from pipeline_lib.core.json_files import read_json
from pipeline_lib.core.lineage import store_of
from pipeline_lib.core.store import Dataset, DatasetWriter, writer
from pipeline_lib.training import movement
from pipeline_lib.training.launch.spec import METRICS, SAMPLES

STAGE = "samples"
VERSION = 1
CODE = "code.json"
"""In a run's folder: the modules that began the run."""
TIMING_FIELDS = ("seconds", "pairs_per_second", "memory_mb")
"""Left out of the published metrics: the same job must give the same bytes."""

logger = logging.getLogger(__name__)


def begin(target: DatasetWriter, run_dir: Path) -> None:
    """Note in a run's folder by which code it began; one that other code began is continued, and the log says so."""
    path = run_dir / CODE
    if not path.exists():
        scratch = run_dir / f".{CODE}.tmp"
        scratch.write_text(json.dumps({code.RELEASE: __version__, **target.code}))
        scratch.rename(path)
    elif code.differing(began := _began(run_dir), target.code):
        logger.warning(
            "%s was begun by other code (%s). It is continued from its checkpoint; force=true begins it again.",
            target.path(),
            code.told(began, target.code),
        )


def publish_model(target: DatasetWriter, run_dir: Path) -> Dataset:
    """The trained model as a dataset; of what several states of the code trained, it records the first one's."""
    target = replace(target, code=_began(run_dir))
    shards = target.write_folder("model", run_dir / "model")
    metrics = reproducible_metrics(run_dir / METRICS, target.config["train"])
    shards.append(target.write_bytes(METRICS, metrics))
    return target.commit(shards)


def publish_samples(model: Dataset, config: TrainConfig, run_dir: Path) -> None:
    """The grids that were painted while the model trained, if there are any, as a dataset of its store."""
    target = _samples_writer(model, config)
    if (run_dir / SAMPLES).is_dir() and config.sample_every and not target.finished():
        target.commit(target.write_folder(SAMPLES, run_dir / SAMPLES))


def tell_missing(model: Dataset, config: TrainConfig) -> None:
    """Say in the log which samples there will not be of a model that was trained without them."""
    if 0 < config.sample_every <= config.steps and not _samples_writer(model, config).finished():
        logger.warning(
            "%s is trained: there are no samples of it every %d steps, which are painted while a model trains. "
            "To have them delete %s and train again; the model will be the same.",
            model.path(),
            config.sample_every,
            model.uri,
        )


def reproducible_metrics(path: Path, train: Mapping[str, Any]) -> bytes:
    """What depends neither on the machine nor on when checkpoints are written.

    How far weights moved is kept only where they did not, of the steps that every such run looks at: of others the
    files tell it, and a model keeps the digest that it had before this was measured.
    """
    records = [json.loads(line) for line in path.read_text().splitlines()]
    looked_at = (movement.FIRST_LOOK, train["steps"]) if movement.unmoved(train, records) else ()

    def kept(record: Mapping[str, Any]) -> dict[str, Any]:
        moved = () if record["step"] in looked_at else (movement.CHANGE, movement.PROJECTED)
        return {name: value for name, value in record.items() if name not in (*TIMING_FIELDS, *moved)}

    return "".join(json.dumps(kept(record)) + "\n" for record in records).encode()


def _samples_writer(model: Dataset, config: TrainConfig) -> DatasetWriter:
    return writer(store_of(model), STAGE, VERSION, {"sample_every": config.sample_every}, [model])


def _began(run_dir: Path) -> dict[str, str]:
    """The modules that began a run; raises TrainingError where its folder does not say."""
    return read_json(run_dir / CODE, TrainingError, f"Delete {run_dir}: the run begins again.")
