"""Settings that are in no key change no byte of a model; what they ask for is not promised of one that exists."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.identity import decides, settled
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.training import movement
from pipeline_lib.training.launch import job
from pipeline_lib.training.launch.publish import reproducible_metrics
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.models import tiny
from tests.pipeline_lib.training.runs import records

OTHERS: dict[str, Any] = {
    "checkpoint_every": 2,
    "keep_checkpoints": 1,
    "milestones": (1, 4),
    "max_skipped_steps": 0,
    "sample_every": 5,
}
CONFIG = TrainConfig(
    method="balanced-dpo",
    beta=100.0,
    steps=6,
    batch_size=2,
    lora_rank=2,
    lora_dropout=0.1,
    prompt_dropout=0.2,
    reference_refresh=3,
    checkpoint_every=100,
)
# Stands in for the trainer: run with the spec's path, as the trainer is.
TRAINER = """
import json, pathlib, sys
spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
run, every = pathlib.Path(spec["run_dir"]), spec["train"]["sample_every"]
(run / "metrics.jsonl").write_text('{"step": 1, "loss": 0.7}\\n')
(run / "model").mkdir()
(run / "model/base.json").write_text("{}")
for step in range(every, spec["train"]["steps"] + 1, every) if every else ():
    (run / "samples").mkdir(exist_ok=True)
    (run / f"samples/step-{step:06d}.png").write_bytes(b"a grid")
"""


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def files(spec: TrainSpec) -> dict[str, bytes]:
    """What is published of a run."""
    folder = Path(spec.run_dir)
    model = {path.name: path.read_bytes() for path in sorted((folder / "model").rglob("*")) if path.is_file()}
    return {**model, "metrics.jsonl": reproducible_metrics(folder / "metrics.jsonl", settled(spec.train))}


def test_the_bytes_are_equal_with_other_values(new_run: Callable[..., TrainSpec]) -> None:
    assert OTHERS.keys() == {of.name for of in fields(TrainConfig) if not decides(of)}
    plain = new_run(CONFIG, "plain", learning_rate=1e-3)
    train(plain)
    for name, value in OTHERS.items():
        changed = new_run(CONFIG, name, learning_rate=1e-3, **{name: value})
        train(changed)
        assert files(changed) == files(plain), name


def test_the_bytes_are_equal_of_weights_that_do_not_move(new_run: Callable[..., TrainSpec]) -> None:
    """Of these the metrics also say how far they are from the base's, which is measured at each checkpoint."""
    plain = new_run(CONFIG, "plain", learning_rate=1e-9, steps=21)
    often = new_run(CONFIG, "often", learning_rate=1e-9, steps=21, checkpoint_every=4, milestones=(2,))
    for spec in (plain, often):
        train(spec)
    assert [record["step"] for record in records(often) if movement.CHANGE in record] == [2, 4, 8, 12, 16, 20, 21]
    assert files(plain) == files(often)
    assert files(plain)["metrics.jsonl"].count(movement.CHANGE.encode()) == 2


def test_samples_are_a_dataset_of_their_own_and_no_part_of_the_model(
    tmp_path: Path,
    mirror: Path,
    encoded: dict[str, Dataset],
    labels: dict[str, Dataset],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job, "POLL_SECONDS", 0.01)

    def model(root: str, **changes: Any) -> Dataset:
        config, command = replace(CONFIG, steps=3, **changes), (sys.executable, "-c", TRAINER)
        store, scratch = str(tmp_path / root), tmp_path / "scratch"
        return job.train(
            store, tiny.base(mirror, "v"), config, encoded["v"], labels["human"], scratch, command=command
        )

    with_samples = model("with", sample_every=2)
    (samples,) = (open_dataset(str(path)) for path in (tmp_path / "with/samples").iterdir())
    assert [shard.path for shard in samples.shards] == ["samples/step-000002.png"]
    assert [source["uri"] for source in samples.inputs] == [with_samples.path()]
    assert model("without").digest == with_samples.digest
    with caplog.at_level(logging.WARNING, "pipeline_lib.training.launch.publish"):
        assert model("with", sample_every=2) == with_samples
        assert model("with", sample_every=50) == with_samples  # more steps than there are
        assert not warnings(caplog)
        assert model("with", sample_every=1) == with_samples
    (said,) = warnings(caplog)
    assert said.startswith(f"{with_samples.path()} is trained: there are no samples of it every 1 steps")


def test_checkpoints_of_milestones_are_not_promised_of_a_trained_model(
    new_run: Callable[..., TrainSpec], caplog: pytest.LogCaptureFixture
) -> None:
    spec = new_run(CONFIG, steps=4, milestones=(2, 4))
    train(spec)
    with caplog.at_level(logging.WARNING, "pipeline_lib.training.trainer"):
        assert train(spec) == "done" and not warnings(caplog)
        assert train(replace(spec, train=replace(spec.train, milestones=(1, 2, 3)))) == "done"
    (said,) = warnings(caplog)
    assert "no checkpoints of the steps 1, 3," in said
