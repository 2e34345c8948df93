"""What is found and closed after dead flow processes, on imitated servers; the real ones are in tests/integration."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError

import pytest

from deploy import recovery
from deploy.recovery import FLOW_TAG, Servers, crash_held_runs, servers_of, tidy

SERVERS = Servers("http://prefect/api", "http://mlflow")


class Fake:
    """Prefect's and MLflow's answers to the calls of recovery.py, from runs in memory."""

    def __init__(self) -> None:
        self.flows: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.tracked: dict[str, dict[str, str]] = {}
        self.messages: list[str] = []

    def flow(self, name: str, state: str, ended_s: float = 100.0, parent: str = "", pool: str = "") -> None:
        end = (datetime.now(UTC) - timedelta(seconds=ended_s)).isoformat().replace("+00:00", "Z")
        run = {"id": name, "name": name, "state_type": state, "end_time": end, "pool": pool}
        self.flows[name] = run | {"parent_task_run_id": parent or None}

    def task(self, name: str, state: str, flow: str) -> None:
        self.tasks[name] = {"id": name, "name": name, "state_type": state, "flow_run_id": flow}

    def call(self, url: str, payload: Any = None, headers: Any = None) -> Any:
        path = url.removeprefix("http://prefect/api/").removeprefix("http://mlflow/api/2.0/mlflow/")
        if found := re.fullmatch(r"(flow|task)_runs/(?!filter)([^/]+)(/set_state)?", path):
            runs = self.flows if found[1] == "flow" else self.tasks
            if found[2] not in runs:
                raise HTTPError(url, 404, "not found", None, None)  # type: ignore[arg-type]
            if found[3]:
                assert payload["force"]
                end = datetime.now(UTC).isoformat().replace("+00:00", "Z")
                runs[found[2]] |= {"state_type": payload["state"]["type"], "end_time": end}
                self.messages.append(payload["state"]["message"])
            return runs[found[2]]
        if path == "experiments/search":
            return {"experiments": [{"experiment_id": "0"}]}
        if path == "runs/search":
            assert (payload["experiment_ids"], payload["filter"]) == (["0"], "attributes.status = 'RUNNING'")
            running = [(k, v) for k, v in self.tracked.items() if v["status"] == "RUNNING"]
            first = int(payload["page_token"] or 0)
            rows = [
                {"info": {"run_id": k}, "data": {"tags": [{"key": FLOW_TAG, "value": v["flow"]}]}} for k, v in running
            ]
            more = {"next_page_token": str(first + 1)} if first + 1 < len(rows) else {}
            return {"runs": rows[first : first + 1], **more}
        if path == "runs/update":
            self.tracked[payload["run_id"]]["status"] = payload["status"]
            return {}
        runs = self.flows if path == "flow_runs/filter" else self.tasks
        rows = [run for run in runs.values() if self._wanted(run, path, payload)]
        return rows[payload["offset"] : payload["offset"] + payload["limit"]]

    def _wanted(self, run: dict[str, Any], path: str, query: dict[str, Any]) -> bool:
        own = query["flow_runs" if path == "flow_runs/filter" else "task_runs"]
        if run["state_type"] not in own["state"]["type"]["any_"]:
            return False
        if "work_pools" in query:
            return bool(run["pool"] in query["work_pools"]["name"]["any_"])
        if path == "flow_runs/filter":
            return bool(run["parent_task_run_id"])
        parent = self.flows[run["flow_run_id"]]
        wanted = query["flow_runs"]
        return bool(
            parent["state_type"] in wanted["state"]["type"]["any_"]
            and parent["end_time"] < wanted["end_time"]["before_"]
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    one = Fake()
    monkeypatch.setattr(recovery, "call", one.call)
    return one


def test_held_runs_of_the_pool_are_crashed_with_all_below_them(fake: Fake) -> None:
    for i in range(201):  # more than a page
        fake.flow(f"run-{i}", "RUNNING", pool="local")
    fake.flow("scheduled", "SCHEDULED", pool="local")
    fake.flow("elsewhere", "RUNNING", pool="gpu")
    fake.task("call", "RUNNING", "run-0")
    fake.flow("inner", "RUNNING", parent="call")
    fake.task("deep", "PENDING", "inner")
    fake.task("other", "RUNNING", "elsewhere")
    fake.tracked["training"] = {"status": "RUNNING", "flow": "inner"}
    assert crash_held_runs(SERVERS, "local", "because.") == [f"run-{i}" for i in range(201)]
    states = {name: run["state_type"] for name, run in (fake.flows | fake.tasks).items()}
    assert {name for name, state in states.items() if state != "CRASHED"} == {"scheduled", "elsewhere", "other"}
    assert fake.tracked["training"]["status"] == "KILLED"
    assert fake.messages[0].startswith("because. Run the deployment again")


@pytest.mark.parametrize(
    ("ended", "below", "tracked"),
    [
        ("COMPLETED", "COMPLETED", "FINISHED"),
        ("FAILED", "CRASHED", "FAILED"),
        ("CANCELLED", "CRASHED", "KILLED"),
        ("CRASHED", "CRASHED", "KILLED"),
    ],
)
def test_what_is_left_open_follows_its_flow_run(fake: Fake, ended: str, below: str, tracked: str) -> None:
    fake.flow("run", ended)
    fake.task("task", "RUNNING", "run")
    fake.tracked |= {name: {"status": "RUNNING", "flow": "run"} for name in ("first", "second")}  # two pages
    assert {run.kind for run in tidy(SERVERS)} == {"task_runs", "mlflow"}
    assert fake.tasks["task"]["state_type"] == below
    assert {run["status"] for run in fake.tracked.values()} == {tracked}
    assert tidy(SERVERS) == []


def test_what_works_and_what_has_just_ended_is_let_be(fake: Fake) -> None:
    fake.flow("working", "RUNNING")
    fake.flow("ended-just-now", "COMPLETED", ended_s=1.0)
    for flow in ("working", "ended-just-now"):
        fake.task(f"task-{flow}", "RUNNING", flow)
        fake.tracked[flow] = {"status": "RUNNING", "flow": flow}
    fake.tracked["of-another-server"] = {"status": "RUNNING", "flow": "unknown"}
    assert tidy(SERVERS) == []


def test_the_servers_and_logins_are_those_of_the_environment() -> None:
    variables = {
        "PREFECT_API_URL": "http://p/api",
        "PREFECT_API_AUTH_STRING": "a:b",
        "MLFLOW_TRACKING_URI": "http://m/",
    }
    found = servers_of(variables)
    assert (found.prefect, found.mlflow) == ("http://p/api", "http://m")
    assert found.prefect_login["Authorization"].startswith("Basic ") and not found.mlflow_login
    with pytest.raises(KeyError, match="MLFLOW_TRACKING_URI"):
        servers_of({"PREFECT_API_URL": "http://p/api"})
