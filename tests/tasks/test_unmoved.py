"""A model whose weights do not move, in MLflow: a tag, and the first words of its run's description."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from pipeline_lib.core.config import BaseModel, TrainConfig
from tasks import tracking, unmoved

BASE = BaseModel(family="sd", repo="tiny/base")
CONFIG = TrainConfig(method="balanced-dpo", reference_refresh=5)
FLOW_RUN = {
    "prefect.flow_run_id": "f",
    "prefect.flow_run_name": "a run",
    "prefect.flow_run_url": "http://p/r",
}
LINK = "Prefect: [a run](http://p/r)"


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the flow's log was told."""
    told: list[str] = []
    logger = SimpleNamespace(warning=lambda text, *values: told.append(text % values))
    monkeypatch.setattr(unmoved, "get_run_logger", lambda: logger)
    monkeypatch.setattr(tracking, "link", lambda *_, **__: None)
    monkeypatch.setattr(tracking, "prefect_tags", lambda: FLOW_RUN)
    return told


def test_the_words_stand_once_before_the_description_and_stay(server: MlflowClient, said: list[str]) -> None:
    run = tracking.training_run("balanced-still", "still", BASE, CONFIG)
    for words in ("The weights do not move: old.", "The weights do not move.", "The weights do not move."):
        unmoved.warn(run, words)
    assert said[-1] == "The weights do not move."
    for _ in range(2):  # and after the run was opened again
        tags = server.get_run(run).data.tags
        assert tags[tracking.UNMOVED_TAG] == "The weights do not move."
        assert tags["mlflow.note.content"] == f"The weights do not move.\n\n{LINK}"
        assert tracking.training_run("balanced-still", "still", BASE, CONFIG) == run


def test_a_silent_server_stops_nothing(server: MlflowClient, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = tracking.training_run("balanced-still", "silent", BASE, CONFIG)

    def down(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("server is down")

    monkeypatch.setattr(MlflowClient, "set_tag", down)
    unmoved.warn(run, "The weights do not move.")
    assert said == ["The weights do not move.", "MLflow did not take this warning: server is down"]
