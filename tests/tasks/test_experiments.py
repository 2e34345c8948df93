"""What people delete in MLflow, on a real SQLite store: experiments come back, runs are named."""

from __future__ import annotations

import logging
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.errors import ConfigError
from tasks import experiments, tracking

BASE = BaseModel(family="sd", repo="tiny/base")
CONFIG = TrainConfig(method="diffusion-dpo", steps=3)


def delete(server: MlflowClient, name: str) -> str:
    found = server.get_experiment_by_name(name)
    assert found is not None
    server.delete_experiment(found.experiment_id)
    return str(found.experiment_id)


def test_a_deleted_experiment_is_restored(server: MlflowClient, caplog: pytest.LogCaptureFixture) -> None:
    first = tracking.training_run("restored", "restored-1", BASE, CONFIG)
    delete(server, "restored")
    with caplog.at_level(logging.WARNING):
        second = tracking.training_run("restored", "restored-2", BASE, CONFIG)
    assert "the MLflow experiment restored had been deleted" in caplog.text
    assert tracking.training_run("restored", "restored-1", BASE, CONFIG) == first != second
    delete(server, "restored")
    assert tracking.find_run("restored-1") == first
    assert server.get_run(first).info.lifecycle_stage == LifecycleStage.ACTIVE


def test_of_two_that_restore_it_both_get_it(server: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tracking.training_run("restored-twice", "restored-twice", BASE, CONFIG)
    identifier, original = delete(server, "restored-twice"), MlflowClient.restore_experiment

    def slow(client: MlflowClient, experiment_id: str) -> None:
        original(client, experiment_id)  # the other one
        original(client, experiment_id)

    monkeypatch.setattr(MlflowClient, "restore_experiment", slow)
    assert experiments.experiment(server, "restored-twice") == identifier
    assert tracking.find_run("restored-twice") == run


def test_who_may_not_restore_it_is_told_what_to_do(server: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking.training_run("foreign", "foreign", BASE, CONFIG)
    identifier = delete(server, "foreign")

    def denied(*_: Any) -> None:
        raise mlflow.MlflowException("Permission denied")

    monkeypatch.setattr(MlflowClient, "restore_experiment", denied)
    for ask in (lambda: experiments.experiment(server, "foreign"), lambda: tracking.find_run("foreign")):
        with pytest.raises(ConfigError, match="Permission denied") as refused:
            ask()
        assert f"mlflow experiments restore --experiment-id {identifier}" in refused.value.remedy


def test_a_deleted_run_is_named_and_the_training_flow_opens_another(server: MlflowClient) -> None:
    run = tracking.training_run("run-deleted", "run-deleted", BASE, CONFIG)
    server.delete_run(run)
    with pytest.raises(ConfigError, match=run) as refused:
        tracking.find_run("run-deleted")
    assert f"mlflow runs restore --run-id {run}" in refused.value.remedy
    other = tracking.training_run("run-deleted", "run-deleted", BASE, CONFIG)
    assert other != run and tracking.find_run("run-deleted") == other


@pytest.mark.parametrize("ends", [None, RuntimeError("a cause")])
def test_a_run_that_is_deleted_while_it_is_written_ends_in_words(server: MlflowClient, ends: Exception | None) -> None:
    name = f"meanwhile-{type(ends).__name__}"
    run = tracking.training_run(name, name, BASE, CONFIG)
    with pytest.raises(ConfigError, match=run) as refused, tracking.closing(run):
        delete(server, name)
        if ends:
            raise ends
    assert "restores the experiment" in refused.value.remedy
    assert tracking.training_run(name, name, BASE, CONFIG) == run


def test_a_stop_is_a_stop_although_its_run_was_deleted(server: MlflowClient) -> None:
    run = tracking.training_run("stopped", "stopped", BASE, CONFIG)
    with pytest.raises(KeyboardInterrupt), tracking.closing(run):
        server.delete_run(run)
        raise KeyboardInterrupt
