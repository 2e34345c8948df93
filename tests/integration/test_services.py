"""What Prefect's and MLflow's servers do by themselves, and this project relies on: each is seen at work once.

Elsewhere, because it takes minutes or other servers: the automation that ends runs without a sign of life
(test_recovery_servers.py), schedules by cron from the form (tests/browser/test_schedules.py), the same on PostgreSQL
and Redis, and files uploaded in parts to S3 (test_compose.py).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events import get_events_subscriber
from prefect.events.actions import ChangeFlowRunState
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.integration.deployments import Deployments

pytestmark = pytest.mark.integration

SEEN_S = 120.0
"""What a service gets on a busy machine; on a quiet one it takes up to 15 s."""
EVENT = f"test.services.{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Begun:
    """What was planted, all at once because most of it takes its time: flow runs by id, and a schedule."""

    schedule: dict[str, Any]
    late: str
    silent: str
    reported: str


def planted(deployments: Deployments, **state: Any) -> str:
    """A flow run that nobody runs."""
    flow = deployments.post("flows/", {"name": "services-test"})["id"]
    return str(deployments.post("flow_runs/", {"flow_id": flow, "state": state})["id"])


def event(name: str, run: str) -> dict[str, Any]:
    resource = {"prefect.resource.id": f"prefect.flow-run.{run}"}
    return {"id": str(uuid.uuid4()), "event": name, "occurred": datetime.now(UTC).isoformat(), "resource": resource}


def automation(run: str, posture: Posture, **trigger: Any) -> AutomationCore:
    """Crash the run when it has said something, or when it has not for 10 s, the least that there is."""
    match = {"prefect.resource.id": f"prefect.flow-run.{run}"}
    within = timedelta(seconds=10 if posture == Posture.Proactive else 0)
    each = {"prefect.resource.id"}
    return AutomationCore(
        name=f"services-test {run}",
        trigger=EventTrigger(match=match, posture=posture, within=within, for_each=each, threshold=1, **trigger),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=posture.value)],
    )


@pytest.fixture(scope="module")
def begun(deployments: Deployments) -> Iterator[Begun]:
    hour_ago = {"scheduled_time": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    late = planted(deployments, type="SCHEDULED", state_details=hour_ago)
    silent, reported = planted(deployments, type="RUNNING"), planted(deployments, type="RUNNING")
    with (
        temporary_settings({PREFECT_API_URL: deployments.env["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
        deployments.unscheduled("ingest/shapes"),
    ):
        declared = [
            client.create_automation(automation(silent, Posture.Proactive, after={"test.begun"}, expect={EVENT})),
            client.create_automation(automation(reported, Posture.Reactive, expect={EVENT})),
        ]
        time.sleep(1)  # the server reads its automations when it is told that there are new ones
        deployments.post("events", [event("test.begun", silent), event(EVENT, reported)])
        yield Begun(deployments.schedule("ingest/shapes", "--interval", "5"), late, silent, reported)
        for one in declared:
            client.delete_automation(one)
    for run in (late, silent, reported):
        deployments.delete(f"flow_runs/{run}")


def until(what: str, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SEEN_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {SEEN_S:.0f} s: {what}"
        time.sleep(0.3)


def test_the_scheduler_makes_runs_and_a_worker_completes_them(deployments: Deployments, begun: Begun) -> None:
    """So do heartbeats and the recorder of task runs, which come as events over a websocket."""
    (run,) = deployments.completed(begun.schedule, 1)
    about = {"resource": {"id": [f"prefect.flow-run.{run['id']}"]}}
    beats = {"filter": {**about, "event": {"name": ["prefect.flow-run.heartbeat"]}}}
    until("a heartbeat", lambda: deployments.post("events/filter", beats)["total"])
    tasks = {"flow_runs": {"id": {"any_": [run["id"]]}}, "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    until("its tasks are recorded", lambda: deployments.post("task_runs/filter", tasks))


def test_late_runs_are_marked(deployments: Deployments, begun: Begun) -> None:
    until("late", lambda: deployments.get(f"flow_runs/{begun.late}")["state_name"] == "Late")


def test_automations_act_on_events_and_on_their_absence(deployments: Deployments, begun: Begun) -> None:
    def messages() -> list[str | None]:
        return [deployments.get(f"flow_runs/{run}")["state"]["message"] for run in (begun.reported, begun.silent)]

    until("both runs are crashed", lambda: messages() == ["Reactive", "Proactive"])


def test_events_reach_who_listens(deployments: Deployments) -> None:
    """Over a websocket, as workers learn of runs to cancel."""
    name = f"{EVENT}.heard"

    async def listen() -> str:
        async with get_events_subscriber(EventFilter(event=EventNameFilter(name=[name]))) as events:
            deployments.post("events", [event(name, str(uuid.uuid4()))])
            return (await anext(events)).event

    with temporary_settings({PREFECT_API_URL: deployments.env["PREFECT_API_URL"]}):
        assert asyncio.run(asyncio.wait_for(listen(), SEEN_S)) == name


def test_mlflow_takes_and_gives_files_that_only_its_server_can_reach(deployments: Deployments, tmp_path: Path) -> None:
    client = mlflow.MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    experiment = client.create_experiment(EVENT)
    run = client.create_run(experiment)
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * 40_000)
    client.log_artifact(run.info.run_id, str(tmp_path / "large.bin"), "files")
    found = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="files/large.bin", dst_path=str(tmp_path / "back"),
        tracking_uri=deployments.env["MLFLOW_TRACKING_URI"],
    )  # fmt: skip
    assert Path(found).read_bytes() == (tmp_path / "large.bin").read_bytes()
    client.delete_experiment(experiment)
