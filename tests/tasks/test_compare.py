"""What a comparison tells MLflow, and which training pairs it finds behind its models."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.utils.validation import _validate_metric_name

from pipeline_lib.core import store
from pipeline_lib.core.store import Dataset
from tasks.compare import links, numbers, training_pairs


def dataset(root: Path, stage: str, *inputs: Dataset) -> Dataset:
    return store.writer(str(root), stage, 1, {}, inputs).commit([])


def test_training_pairs_are_found_by_lineage(tmp_path: Path) -> None:
    pairs = dataset(tmp_path, "ingest")
    trained = dataset(tmp_path, "model", dataset(tmp_path, "labels", pairs), dataset(tmp_path, "encoded", pairs))
    alone = dataset(tmp_path / "other", "model", pairs)
    assert training_pairs({"base": None, "trained": trained, "alone": alone}) == {"trained": [pairs], "alone": []}


@pytest.mark.parametrize("label", ["mine/1", "org/name@4a1b", "/data/my sdxl", "model/0123", "a+b"])
def test_metrics_have_names_that_mlflow_takes(label: str) -> None:
    row = {"difference": [0.1, 0.0, 0.2], "p_holm": 0.5}
    report = {
        "win_rate": {label: {"clip": [0.6, 0.5, 0.7]}},
        "comparisons": {label: {"scorers": {"clip": row}}},
        "models": {label: {"means": {"clip": 0.2}}},
        "implicit": {},
    }
    found = numbers(report)
    assert sorted(found.values()) == [0.1, 0.2, 0.5, 0.5, 0.6, 0.7]
    for name in found:
        _validate_metric_name(name)


def test_links_lead_to_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert links(["models:/mine/1"]) == "- [models:/mine/1](http://127.0.0.1:5000/#/models/mine/versions/1)"
