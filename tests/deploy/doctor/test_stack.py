"""The doctor on a running stack: nothing to say about a sound one, and a finding for each thing that is planted."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.doctor import Finding, Surroundings, look_around
from deploy.doctor.database import judge
from deploy.doctor.leftovers import leftovers
from deploy.doctor.pools import pools
from deploy.doctor.runs import flow_runs
from deploy.doctor.servers import Server
from deploy.doctor.slots import slots
from deploy.stack.api import RETRY_S, call
from deploy.stack.settings import ROOT
from deploy.unwanted import RUN_VARIABLE, WORKER_VARIABLE

pytestmark = pytest.mark.integration

NO_SUCH_PROCESS = f"{socket.gethostname()}:4194999"
"""Above the largest process number of Linux."""


@pytest.fixture(scope="module")
def surroundings(stack: Mapping[str, str]) -> Surroundings:
    found = look_around(stack)
    assert [finding.level for finding in found.findings] == ["ok", "ok"]
    return found


@pytest.fixture(scope="module")
def prefect(surroundings: Surroundings) -> Server:
    assert surroundings.prefect
    return surroundings.prefect


def change(server: Server, method: str, path: str, payload: object = None) -> None:
    """PATCH or DELETE; asked again while SQLite is busy, as deploy.stack.api does."""
    data = None if payload is None else json.dumps(payload).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/{path}", data, headers, method=method)
    for last in (*[False] * 9, True):
        try:
            urllib.request.urlopen(request).close()
            return
        except urllib.error.HTTPError as error:
            if error.code != 503 or last:
                raise
            time.sleep(RETRY_S)


@contextmanager
def planted_run(server: Server, state: str, **more: Any) -> Iterator[dict[str, Any]]:
    """A flow run that nobody runs, in `state`; removed afterwards."""
    flow = server.ask("flows/", {"name": "doctor-test"})
    body = {"flow_id": flow["id"], "name": f"planted-{uuid.uuid4().hex[:8]}", "state": {"type": state}}
    run = server.ask("flow_runs/", body | more)
    try:
        yield dict(run)
    finally:
        change(server, "DELETE", f"flow_runs/{run['id']}")


def about(findings: Iterator[Finding], name: str) -> list[Finding]:
    return [finding for finding in findings if name in finding.what]


def test_a_sound_stack_has_nothing_to_mend(stack: Mapping[str, str]) -> None:
    """As a user calls it, with the secret of somebody else in the environment."""
    secret = f"planted-{uuid.uuid4().hex}"
    env = {**stack, "HF_TOKEN": secret}
    command = [sys.executable, "-m", "deploy.doctor"]
    done = subprocess.run([*command, "--json"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    findings = [Finding(**finding) for finding in json.loads(done.stdout)]
    assert done.returncode == 0, [finding for finding in findings if finding.level == "error"]
    sound = {finding.check for finding in findings if finding.level == "ok"}
    assert sound >= {
        "prefect server",
        "mlflow server",
        "versions",
        "database",
        "schedules",
        "slots",
        "disk",
        "hub",
        "s3",
    }
    assert [finding.what for finding in findings if finding.check == "database"] == [
        "prefect: sqlite, enough for one machine",
        "mlflow: sqlite, enough for one machine",
    ]
    assert secret not in done.stdout + done.stderr


def test_the_command_line_without_servers(tmp_path: Any) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")}
    env |= {"PIPELINE_STATE": str(tmp_path / "state")}
    command = [sys.executable, "-m", "deploy.doctor"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "ERROR    prefect server  PREFECT_API_URL is not set, and no local stack runs\n" in done.stdout
    assert "2 errors, 0 warnings" in done.stdout
    wrong = subprocess.run([*command, "--preset", "sd9"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert wrong.returncode == 2 and "sdxl" in wrong.stderr


def test_a_zombie_is_found_by_its_process_and_its_remedy_ends_it(
    surroundings: Surroundings, prefect: Server, stack: Mapping[str, str]
) -> None:
    with planted_run(prefect, "RUNNING") as run:
        assert not about(flow_runs(surroundings), run["name"]), "it has just started, and may be anywhere"
        change(prefect, "PATCH", f"flow_runs/{run['id']}", {"infrastructure_pid": NO_SUCH_PROCESS})
        (zombie,) = about(flow_runs(surroundings), run["name"])
        assert zombie.level == "error" and f"its process {NO_SUCH_PROCESS} is gone" in zombie.what
        command = shlex.split(zombie.remedy, comments=True)
        subprocess.run([sys.executable, "-m", *command], env=dict(stack), check=True, capture_output=True, timeout=120)
        assert prefect.ask(f"flow_runs/{run['id']}")["state_type"] == "CRASHED"
        assert not about(flow_runs(surroundings), run["name"])


def test_a_run_elsewhere_is_a_zombie_when_its_heart_has_stopped(surroundings: Surroundings, prefect: Server) -> None:
    hour = datetime.now(UTC) + timedelta(hours=1)
    with planted_run(prefect, "RUNNING") as run, planted_run(prefect, "PENDING") as pending:
        (zombie,) = about(flow_runs(surroundings, hour), run["name"])
        assert "has sent no heartbeat for 5 min" in zombie.what
        (stuck,) = about(flow_runs(surroundings, hour), pending["name"])
        assert "is Pending for 60 min and holds its slots" in stuck.what
        beat = {
            "id": str(uuid.uuid4()),
            "event": "prefect.flow-run.heartbeat",
            "occurred": (hour - timedelta(minutes=1)).isoformat(),
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run['id']}"},
        }
        call(f"{prefect.url}/events", [beat])
        wait_until(lambda: not about(flow_runs(surroundings, hour), run["name"]))


def test_a_run_that_was_cancelled_and_goes_on(surroundings: Surroundings, prefect: Server) -> None:
    with planted_run(prefect, "CANCELLED") as run:
        marks = {RUN_VARIABLE: run["id"], WORKER_VARIABLE: "1"}
        process = subprocess.Popen(["sleep", "60"], env=os.environ | marks)
        try:
            assert not about(flow_runs(surroundings), run["name"]), "it may be about to end"
            (finding,) = about(flow_runs(surroundings, datetime.now(UTC) + timedelta(hours=1)), run["name"])
        finally:
            process.kill()
            process.wait()
        assert finding.level == "error" and f"processes {process.pid}) should have ended" in finding.what
        assert "python -m deploy.recovery" in finding.remedy
        assert not about(flow_runs(surroundings, datetime.now(UTC) + timedelta(hours=1)), run["name"])


def test_a_run_that_waits_for_its_slot(surroundings: Surroundings, prefect: Server) -> None:
    with planted_run(prefect, "SCHEDULED") as run:
        state = {"type": "SCHEDULED", "name": "AwaitingConcurrencySlot"}
        prefect.ask(f"flow_runs/{run['id']}/set_state", {"state": state, "force": True})
        assert not about(flow_runs(surroundings), run["name"])
        (finding,) = about(flow_runs(surroundings, datetime.now(UTC) + timedelta(hours=1)), run["name"])
        assert finding.level == "warning" and f"prefect flow-run cancel {run['id']}" in finding.remedy


def test_a_slot_that_nobody_holds(surroundings: Surroundings, prefect: Server) -> None:
    name, hour = f"doctor-{uuid.uuid4().hex[:8]}", datetime.now(UTC) + timedelta(hours=1)
    prefect.ask("v2/concurrency_limits/", {"name": name, "limit": 2, "active_slots": 2})
    try:
        assert not about(slots(surroundings), name), "a lease may still give it back"
        (stuck,) = about(slots(surroundings, hour), name)
        assert stuck.what == f"{name}: 2 of 2 slots are taken, 0 runs could hold one"
        assert stuck.remedy == f"prefect gcl update '{name}' --active-slots 0"
        with planted_run(prefect, "RUNNING"), planted_run(prefect, "PENDING"):
            assert not about(slots(surroundings, hour), name), "two runs could hold them"
    finally:
        change(prefect, "DELETE", f"v2/concurrency_limits/{name}")


def test_pools_that_nobody_serves_or_that_are_paused(surroundings: Surroundings, prefect: Server) -> None:
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    prefect.ask("work_pools/", {"name": name, "type": "process", "base_job_template": {}})
    flow = prefect.ask("flows/", {"name": "doctor-test"})
    try:
        assert not about(pools(surroundings), name), "no deployment needs it"
        deployment = {"name": name, "flow_id": flow["id"], "work_pool_name": name, "entrypoint": "flows/x.py:x"}
        prefect.ask("deployments/", deployment)
        (unserved,) = about(pools(surroundings), name)
        assert unserved.level == "error" and "1 deployments and no live worker" in unserved.what
        assert f"python -m deploy.worker --pool '{name}' --type process" in unserved.remedy
        change(prefect, "PATCH", f"work_pools/{name}", {"is_paused": True})
        (paused,) = about(pools(surroundings), name)
        assert paused.level == "warning" and paused.remedy == f"prefect work-pool resume '{name}'"
    finally:
        change(prefect, "DELETE", f"work_pools/{name}")
        for one in prefect.every("deployments/filter", {"deployments": {"name": {"any_": [name]}}}):
            change(prefect, "DELETE", f"deployments/{one['id']}")
    assert all(finding.level == "ok" for finding in about(pools(surroundings), "local:"))


def test_an_mlflow_run_whose_flow_run_is_over(surroundings: Surroundings, prefect: Server) -> None:
    mlflow = surroundings.mlflow
    assert mlflow
    experiment = mlflow.ask("api/2.0/mlflow/experiments/create", {"name": f"doctor-{uuid.uuid4().hex[:8]}"})

    def start(flow_run: str) -> str:
        tags = [{"key": "prefect.flow_run_id", "value": flow_run}]
        query = {**experiment, "run_name": f"of-{flow_run}", "tags": tags}
        return str(mlflow.ask("api/2.0/mlflow/runs/create", query)["run"]["info"]["run_id"])

    with planted_run(prefect, "RUNNING") as alive, planted_run(prefect, "CRASHED") as dead:
        start(alive["id"])
        orphan = start(dead["id"])
        assert not about(leftovers(surroundings), "of-"), "it has ended just now"
        (finding,) = about(leftovers(surroundings, settled_s=0), "of-")
        assert finding.what == f"MLflow run of-{dead['id']} is RUNNING, but its flow run is CRASHED"
        assert "python -m deploy.recovery" in finding.remedy
        mlflow.ask("api/2.0/mlflow/runs/update", {"run_id": orphan, "status": "KILLED"})
        assert not about(leftovers(surroundings, settled_s=0), "of-")
    mlflow.ask("api/2.0/mlflow/experiments/delete", experiment)


@pytest.mark.parametrize(
    ("kind", "on_loopback", "workers", "level", "says"),
    [
        ("sqlite", True, 1, "ok", "enough for one machine"),
        ("sqlite", True, 2, "warning", "with 2 workers"),
        ("sqlite", False, 1, "warning", "with other machines"),
        ("postgresql", False, 9, "ok", "prefect: postgresql"),
        ("", False, 1, "ok", "not visible from here"),
    ],
)
def test_which_database_is_enough(kind: str, on_loopback: bool, workers: int, level: str, says: str) -> None:
    finding = judge("prefect", kind, on_loopback, workers)
    assert finding.level == level and says in finding.what


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
