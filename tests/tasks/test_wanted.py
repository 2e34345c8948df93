"""A task asks the real server whether its run is still wanted before it publishes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from deploy.stack.api import call
from pipeline_lib.core.errors import PublishError
from tasks import tracking, wanted
from tasks.wanted import Unwanted, require_wanted

pytestmark = pytest.mark.integration


@pytest.fixture
def api(stack: dict[str, str]) -> Iterator[str]:
    with temporary_settings({PREFECT_API_URL: stack["PREFECT_API_URL"]}):
        yield stack["PREFECT_API_URL"]


RUNS: list[UUID] = []
SAID: list[str] = []
"""What was published. Not a parameter: Prefect hands copies to flows."""


def present_run() -> UUID:
    context = FlowRunContext.get()
    assert context and context.flow_run
    return context.flow_run.id


def set_state(run: UUID, kind: str) -> None:
    state: State[Any] = State(type=StateType(kind), name=kind.capitalize())
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, state, force=True)


@task
def publish(what: str) -> None:
    require_wanted(what)
    SAID.append(what)


@flow
def inner(above: UUID, change: str | None) -> None:
    if change:
        set_state(above, change)
    publish("inner")


@flow
def outer(change: str | None) -> None:
    own = present_run()
    RUNS.append(own)
    inner(own, change)


@pytest.mark.parametrize(
    ("change", "state"), [("CANCELLING", "CANCELLED"), ("CANCELLED", "CANCELLED"), ("CRASHED", "CRASHED")]
)
def test_a_subflow_of_a_run_that_was_cancelled_or_ended_publishes_nothing(api: str, change: str, state: str) -> None:
    SAID.clear()
    with pytest.raises(Unwanted, match="nothing is published"):
        outer(change)
    assert SAID == []
    assert call(f"{api}/flow_runs/{RUNS[-1]}")["state_type"] == state, "it stays what it was"


def test_who_is_at_work_and_who_is_in_no_flow_publishes(api: str) -> None:
    SAID.clear()
    outer(None)
    require_wanted("outside")
    assert SAID == ["inner"]


def test_a_run_that_is_cancelled_does_not_finish_its_mlflow_run(api: str, server: MlflowClient) -> None:
    @flow
    def training() -> None:
        run_id = tracking.open_run("wanted", "title", {"key": "value"}, "", {})
        with tracking.closing(run_id):
            set_state(present_run(), "CANCELLED")

    with pytest.raises(Unwanted):
        training()
    experiment = server.get_experiment_by_name("wanted")
    assert experiment is not None
    (run,) = server.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"


def test_a_server_that_does_not_answer_is_asked_again_and_then_nothing_is_published(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}/api"

    @flow
    def unreachable() -> float:
        begun = time.monotonic()
        monkeypatch.setattr(wanted, "get_client", lambda sync_client: SyncPrefectClient(nowhere))
        with pytest.raises(PublishError, match="does not say"):
            require_wanted("a result", patience_s=1.0)
        return time.monotonic() - begun

    assert 1.0 < unreachable() < 20.0
