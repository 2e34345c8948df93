"""Models of a comparison whose training did not move their weights: what is compared is then the base with itself."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_lib.core.store import Dataset
from pipeline_lib.training import movement
from pipeline_lib.training.launch.job import read_metrics
from pipeline_lib.training.launch.spec import METRICS


def unmoved(models: Mapping[str, Dataset | None]) -> dict[str, str]:
    """What to say about each such model that this pipeline trained, by its name."""
    trained = {name: model for name, model in models.items() if model is not None and _has_curve(model)}
    found = {name: movement.unmoved(model.config["train"], read_metrics(model)) for name, model in trained.items()}
    return {name: words for name, words in found.items() if words}


def _has_curve(model: Dataset) -> bool:
    return any(shard.path == METRICS for shard in model.shards)
