"""MLflow on a real SQLite store: one run per model, truthful ends, batches that survive a silent server."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from pipeline_lib.core import store
from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.errors import ConfigError
from tasks import tracking

BASE = BaseModel(family="sd", repo="tiny/base")
CONFIG = TrainConfig(method="diffusion-dpo", steps=3)


def test_without_an_address_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="make up"):
        tracking.client()


def test_an_address_with_a_login_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:planted@127.0.0.1:5000")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        tracking.client()
    assert "planted" not in str(refused.value)


def test_a_model_has_one_run_however_often_it_is_trained(
    server: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "link", lambda *_, **__: None)
    runs = []
    for flow_run in ("f", "g"):
        tags = {
            "prefect.flow_run_id": flow_run,
            "prefect.flow_run_name": "a run",
            "prefect.flow_run_url": "http://p/r",
        }
        monkeypatch.setattr(tracking, "prefect_tags", lambda tags=tags: tags)
        runs.append(tracking.training_run("dpo-test", "key-1", BASE, CONFIG))
        found = server.get_run(runs[-1]).data.tags
        assert found["prefect.flow_run_id"] == flow_run, "the flow run that works on it now"
        assert found["mlflow.note.content"] == "Prefect: [a run](http://p/r)"
    first = runs[0]
    assert runs == [first, first]
    assert tracking.training_run("dpo-test", "key-2", BASE, CONFIG) != first
    assert tracking.find_run("key-1") == first
    params = server.get_run(first).data.params
    assert params["train.method"] == "diffusion-dpo" and params["model.repo"] == "tiny/base"
    with pytest.raises(ConfigError, match="key-3"):
        tracking.find_run("key-3")


def test_of_two_first_runs_both_get_the_experiment(server: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tracking.training_run("dpo-raced", "key-1", BASE, CONFIG)
    original, asked = MlflowClient.get_experiment_by_name, []

    def not_yet(client: MlflowClient, name: str) -> Any:
        asked.append(name)
        return original(client, name) if len(asked) > 1 else None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", not_yet)
    second = tracking.training_run("dpo-raced", "key-2", BASE, CONFIG)
    assert server.get_run(first).info.experiment_id == server.get_run(second).info.experiment_id


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (RuntimeError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_runs_end_truthfully(server: MlflowClient, error: BaseException | None, status: str) -> None:
    run = tracking.training_run("dpo-test", f"ends-{status}", BASE, CONFIG)
    try:
        with tracking.closing(run):
            if error:
                raise error
    except BaseException as raised:
        assert raised is error
    assert server.get_run(run).info.status == status


def test_metrics_that_could_not_be_sent_are_sent_later(server: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tracking.training_run("dpo-test", "metrics", BASE, CONFIG)
    buffer = tracking.MetricBuffer(run)
    warnings: list[Any] = []
    logger = SimpleNamespace(warning=lambda *said: warnings.append(said))
    monkeypatch.setattr(tracking, "get_run_logger", lambda: logger)

    def down(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("server is down")

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_batch", down)
        buffer.add({"step": 1, "loss": 0.7, "note": "not a number"})
    assert warnings and len(buffer.waiting) == 1
    buffer.add({"step": 2, "loss": 0.6})
    buffer.flush()
    history = server.get_metric_history(run, "train/loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.7), (2, 0.6)]
    assert buffer.waiting == []


def test_steps_the_run_has_are_not_logged_again(server: MlflowClient) -> None:
    """A resumed trainer repeats steps; a model trained for a second store continues the same run."""
    run = tracking.training_run("dpo-test", "twice", BASE, CONFIG)
    first = tracking.MetricBuffer(run)
    for step in (1, 2, 2, 3):
        first.add({"step": step, "loss": 0.7, "lr": 1e-5})
    first.flush()
    second = tracking.MetricBuffer(run)
    for step in (1, 2, 3, 4):
        second.add({"step": step, "loss": 0.7, "lr": 1e-5})
    second.flush()
    assert [metric.step for metric in server.get_metric_history(run, "train/loss")] == [1, 2, 3, 4]


def test_a_batch_ends_with_a_whole_step(server: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed between two batches leaves steps that are there or not."""
    run = tracking.training_run("dpo-test", "batches", BASE, CONFIG)
    sent: list[list[int]] = []
    buffer = tracking.MetricBuffer(run, sent_at=float("inf"))
    for step in (1, 2, 3):
        buffer.add({"step": step, "loss": 0.7, "lr": 1e-5})
    monkeypatch.setattr(tracking, "BATCH", 5)
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *_, metrics: sent.append([m.step for m in metrics]))
    buffer.flush()
    assert sent == [[1, 1, 2, 2], [3, 3]]


def test_a_run_whose_creator_was_killed_gets_its_parameters(server: MlflowClient) -> None:
    experiment = server.create_experiment("created-only")
    bare = server.create_run(experiment, tags={tracking.KEY_TAG: "created-only"}).info.run_id
    assert tracking.training_run("created-only", "created-only", BASE, CONFIG) == bare
    assert server.get_run(bare).data.params["train.method"] == "diffusion-dpo"


def test_input_datasets_carry_their_digests(server: MlflowClient, tmp_path: Path) -> None:
    run = tracking.training_run("balanced-test", "model-key", BASE, CONFIG)
    writer = store.writer(str(tmp_path), "labels", 1, {})
    labels = writer.commit([writer.write_bytes("a.txt", b"a")])
    tracking.log_datasets(run, {"labels": labels})
    (source,) = server.get_run(run).inputs.dataset_inputs
    assert {tag.key: tag.value for tag in source.tags}["pipeline.digest"] == labels.digest
