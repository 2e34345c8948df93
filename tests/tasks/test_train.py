"""The train task with a stand-in for the trainer: two runs that ask for the same model at the same time."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.store import Dataset, verify, writer
from pipeline_lib.models.parts import encoder_digest
from pipeline_lib.presets import preset
from pipeline_lib.training.launch import job
from tasks import forecast, locks, tracking
from tasks import train as stage

BASE, CONFIG = preset("shapes").base, TrainConfig(method="diffusion-dpo", steps=3)
# Writes what a trainer writes, and takes longer than another process waits for its run folder.
TRAINER = """
import json, pathlib, sys, time
run = pathlib.Path(json.loads(pathlib.Path(sys.argv[1]).read_text())["run_dir"])
for step in (1, 2, 3):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "loss": 0.7, "lr": 1e-5}) + "\\n")
    time.sleep(0.3)
(run / "model").mkdir()
(run / "model/base.json").write_text("{}")
"""


def made(store: str) -> Dataset:
    """Stands for encodings, by the base as it is, and for labels."""
    w = writer(store, "made", 1, {"model": {"weights": encoder_digest(BASE)}})
    return w.commit([w.write_bytes("a.txt", b"a")], {"kept": 4})


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the task tells Prefect goes nowhere, and it returns its dataset."""
    logger = SimpleNamespace(info=lambda *_: None, warning=lambda *_: None)
    for module in (stage, forecast, locks, tracking):
        monkeypatch.setattr(module, "get_run_logger", lambda: logger)
    monkeypatch.setattr(stage, "reporter", lambda *_: lambda *_, **__: None)
    monkeypatch.setattr(stage, "finish", lambda name, dataset, started: dataset)


def test_the_second_of_two_waits_and_finds_the_model(
    server: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(job, "GRACE_SECONDS", 0.3)
    starts: list[Any] = []

    def launcher(*given: Any) -> list[str]:
        starts.append(given)
        return [sys.executable, "-c", TRAINER]

    monkeypatch.setattr(job, "launcher", launcher)
    quiet(monkeypatch)
    uri = made(str(tmp_path)).uri

    def train(_: int) -> Any:
        return stage.train.fn(str(tmp_path), "dpo-together", BASE, CONFIG, uri, uri, {})

    with ThreadPoolExecutor(2) as pool:
        (first, run), (second, again) = pool.map(train, range(2))
    assert first == second and run == again
    verify(first)
    experiment = server.get_run(run).info.experiment_id
    assert [found.info.status for found in server.search_runs([experiment])] == ["FINISHED"]
    assert [metric.step for metric in server.get_metric_history(run, "train/loss")] == [1, 2, 3]
    assert len(starts) == 1, "trained once"
    tags = server.get_run(run).data.tags
    assert tags[forecast.EPOCHS_TAG] == "12" and forecast.MANY_EPOCHS_TAG not in tags, (
        "3 steps of 16 pairs on 4 labels"
    )
    assert tags[forecast.FORECAST_TAG].startswith("3 steps of 16 pairs see the 4 labels 12 times")


def test_a_model_that_lies_under_the_key_of_before_has_its_run(
    server: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(monkeypatch)
    inputs = made(str(tmp_path))
    today = job.model_writer(str(tmp_path), BASE, CONFIG, inputs, inputs)
    key = today.keys[-1]
    before = replace(today, key=key, uri=today.uri.replace(today.key, key), code={})
    before.commit([before.write_bytes("model/base.json", b"{}"), before.write_bytes("metrics.jsonl", b"")])
    model, run = stage.train.fn(str(tmp_path), "dpo-before", BASE, CONFIG, inputs.uri, inputs.uri, {})
    assert model.key == key != today.key
    assert server.get_run(run).data.tags[tracking.KEY_TAG] == key
