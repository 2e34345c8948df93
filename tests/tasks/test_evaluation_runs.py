"""Evaluations as MLflow runs on a real SQLite store: each keeps its numbers, the model's run those of the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline_lib.core import store
from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.store import Dataset
from tasks import evaluation_runs, tracking
from tasks.evaluation_runs import find_evaluation, log_evaluation

BASE = BaseModel(family="sd", repo="tiny/base")
CONFIG = TrainConfig(method="diffusion-dpo", steps=3)
RATE = "eval/win_rate/clip"


def evaluation(root: Path, prompts: int) -> Dataset:
    writer = store.writer(str(root), "evaluation", 1, {"num_prompts": prompts})
    page = f'{prompts} prompts, <a href="../../labels/0a/report.html">labels/0a</a>, <a href="#top">up</a>'
    files = {"report.html": page.encode(), "report.json": b"{}"}
    return writer.commit([writer.write_bytes(name, content) for name, content in files.items()])


def log(run: str, dataset: Dataset, rate: float) -> str:
    return log_evaluation(run, "an evaluation", dataset, {"num_prompts": 1}, {RATE: rate})


def page(server: MlflowClient, run: str, folder: Path) -> str:
    return Path(server.download_artifacts(run, "evaluation/report.html", str(folder))).read_text()


def test_a_second_evaluation_leaves_the_first_ones_numbers_and_report(server: MlflowClient, tmp_path: Path) -> None:
    model = tracking.training_run("judged", "judged", BASE, CONFIG)
    first, second = evaluation(tmp_path, 8), evaluation(tmp_path, 6)
    one, two = log(model, first, 0.6), log(model, second, 0.4)
    assert (log(model, first, 0.6), log(model, second, 0.4)) == (one, two)
    assert (find_evaluation(first), find_evaluation(second)) == (one, two) and one != two
    for run, rate in ((model, 0.6), (one, 0.6), (two, 0.4)):
        assert [m.value for m in server.get_metric_history(run, RATE)] == [rate]
    assert page(server, model, tmp_path) == page(server, one, tmp_path) != page(server, two, tmp_path)
    nested = server.get_run(two)
    assert nested.data.tags["mlflow.parentRunId"] == model and nested.info.status == "FINISHED"
    assert tracking.find_run("judged") == model
    server.delete_run(one)
    assert find_evaluation(first) is None and log(model, first, 0.6) not in (one, two)


def test_who_was_killed_while_logging_the_first_finishes_it(
    server: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tracking.training_run("halfway", "halfway", BASE, CONFIG)
    first, second = evaluation(tmp_path, 4), evaluation(tmp_path, 3)
    numbers = evaluation_runs.log_numbers

    def killed(run: str, *rest: Any) -> None:
        if run == model:
            raise KeyboardInterrupt
        numbers(run, *rest)

    with monkeypatch.context() as broken:
        broken.setattr(evaluation_runs, "log_numbers", killed)
        with pytest.raises(KeyboardInterrupt):
            log(model, first, 0.6)
    log(model, second, 0.4)
    assert RATE not in server.get_run(model).data.metrics, "the first one's place is taken"
    log(model, first, 0.6)
    assert server.get_run(model).data.metrics == {RATE: 0.6}


def test_reports_in_mlflow_have_no_links_into_the_store(server: MlflowClient, tmp_path: Path) -> None:
    model = tracking.training_run("linked", "linked", BASE, CONFIG)
    shown = page(server, log(model, evaluation(tmp_path, 2), 0.5), tmp_path)
    assert shown == '2 prompts, labels/0a (in the store: <code>labels/0a/report.html</code>), <a href="#top">up</a>'
