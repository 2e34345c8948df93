"""The train task with a stand-in for the trainer: two runs that ask for the same model at the same time."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline_lib.config import TrainConfig
from pipeline_lib.presets import preset
from pipeline_lib.store import verify, writer
from pipeline_lib.training import job
from tasks import locks, tracking
from tasks import train as stage

CONFIG = TrainConfig(method="diffusion-dpo", steps=3)
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
    logger = SimpleNamespace(info=lambda *_: None, warning=lambda *_: None)
    for module in (stage, locks, tracking):
        monkeypatch.setattr(module, "get_run_logger", lambda: logger)
    monkeypatch.setattr(stage, "reporter", lambda *_: lambda *_: None)
    monkeypatch.setattr(stage, "finish", lambda name, dataset, started: dataset)
    made = writer(str(tmp_path), "made", 1, {})
    uri = made.commit([made.write_bytes("a.txt", b"a")]).uri

    def train(_: int) -> Any:
        return stage.train.fn(str(tmp_path), "dpo-together", preset("shapes").base, CONFIG, uri, uri, {})

    with ThreadPoolExecutor(2) as pool:
        (first, run), (second, again) = pool.map(train, range(2))
    assert first == second and run == again
    verify(first)
    experiment = server.get_run(run).info.experiment_id
    assert [found.info.status for found in server.search_runs([experiment])] == ["FINISHED"]
    assert [metric.step for metric in server.get_metric_history(run, "train/loss")] == [1, 2, 3]
    assert len(starts) == 1, "trained once"
