"""The job of one training process, as a JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline_lib.core.config import BaseModel, TrainConfig, require
from pipeline_lib.core.digest import digest
from pipeline_lib.core.errors import ConfigError, excerpt
from pipeline_lib.core.identity import identity, settled
from pipeline_lib.core.json_files import read_json
from pipeline_lib.core.overrides import built, check_names

# Exit codes of the training process.
USER_ERROR = 2
"""A typed error; the message on stderr ends with what to do."""
INTERRUPTED = 75
"""Stopped by SIGTERM after a checkpoint (EX_TEMPFAIL): start it again."""

# Files of a run folder that more than one module knows.
SPEC = "spec.json"
LAUNCH = "launch.json"
"""There while a trainer over several machines runs: what the others are to start (join.py)."""
METRICS = "metrics.jsonl"
SAMPLES = "samples"
STATUS = "status.json"
"""What the trainer last said of itself."""
TRAINERS = "trainers"
"""Locked (shared) by every training process for as long as it lives."""


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """What to train, on what, and where to write.

    Attributes:
        model: the base model.
        weights: the digest of its files that the run was asked for (`base_identity`); None takes what is there.
        train: method and hyper-parameters.
        encoded: URI of the finished dataset of the encode stage.
        labels: URI of the finished dataset of the label stage.
        sharding: "fsdp" spreads a full fine-tuning over the processes; like their number, it changes no result.
        run_dir: local folder for metrics, checkpoints and the result; a run started again in it continues.
    """

    model: BaseModel
    train: TrainConfig
    encoded: str
    labels: str
    run_dir: str
    weights: str | None = None
    sharding: Literal["none", "fsdp"] = "none"


def write_spec(path: Path, spec: TrainSpec) -> None:
    """Write a spec that `read_spec` reads back equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(spec), indent=1, sort_keys=True) + "\n")


def read_spec(path: Path) -> TrainSpec:
    """The spec in a JSON file; raises ConfigError for unreadable JSON and for unknown or missing fields."""
    remedy = "Write it with write_spec()."
    raw = read_json(path, ConfigError, remedy)
    parts: dict[str, Any] = {"model": raw.get("model", {}), "train": raw.get("train", {})}
    for name, value in parts.items():
        require(isinstance(value, dict), f"{path} is no training spec: its {name} is {excerpt(value)}.", remedy)
        check_names(BaseModel if name == "model" else TrainConfig, value)
    return built(TrainSpec, raw)


def run_digest(spec: TrainSpec, weights: str | None, encoded_digest: str, labels_digest: str) -> str:
    """Identity of a run: everything that decides its result. When it checkpoints and where it writes do not.

    Args:
        weights: digest of the base's files, which may lie anywhere.
    """
    train = identity(settled(spec.train), TrainConfig)
    return digest([spec.model.family, weights, train, encoded_digest, labels_digest])
