"""A real stack on free ports: kill the worker under a running flow, then see what a user of the stack would see."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.stack import ROOT, StackSettings, current_settings, down, running_stack, status, up
from deploy.stack.api import call
from deploy.stack.control import recorded_state
from deploy.stack.processes import owned_processes

FLOWS = """
import os, subprocess, sys, time
from pathlib import Path
from prefect import flow, task

@task
def wait_for_ever(pids: str):
    # In a session of its own, as a trainer is: only the marks in its environment lead to it.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"], start_new_session=True)
    Path(pids).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(900)

@flow
def inner(pids: str):
    wait_for_ever(pids)

@flow
def outer(pids: str):
    if not Path(pids).exists():
        inner(pids)
    return 1
"""
DEPLOY = """
import sys
from prefect import flow
flow.from_source(source=sys.argv[1], entrypoint="flows_under_test.py:outer").deploy(
    name="test", work_pool_name=sys.argv[3], parameters={"pids": sys.argv[2]}, print_next_steps=False)
"""


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = 180.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.3)
    return value


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class Runs:
    """Start and look at runs of the test's deployment."""

    api: str
    pids: Path
    deployment: str

    @classmethod
    def deploy(cls, env: dict[str, str], folder: Path, pool: str = "local") -> "Runs":
        (folder / "flows_under_test.py").write_text(FLOWS)
        pids = folder / "pids"
        arguments = [sys.executable, "-c", DEPLOY, str(folder), str(pids), pool]
        subprocess.run(arguments, env=env, cwd=ROOT, check=True, timeout=120)
        api = env["PREFECT_API_URL"]
        return cls(api, pids, call(f"{api}/deployments/name/outer/test")["id"])

    def start(self) -> str:
        url = f"{self.api}/deployments/{self.deployment}/create_flow_run"
        return str(call(url, {"state": {"type": "SCHEDULED"}})["id"])

    def start_endless(self) -> tuple[str, int, int]:
        """Run id, process of the flow, process of its child; the flow is then in a task of a subflow."""
        self.pids.unlink(missing_ok=True)
        run = self.start()
        text = wait_for("the flow runs", lambda: self.pids.exists() and self.pids.read_text())
        flow_pid, child_pid = map(int, text.split())
        return run, flow_pid, child_pid

    def state(self, run: str) -> dict[str, Any]:
        state: dict[str, Any] = call(f"{self.api}/flow_runs/{run}")["state"]
        return state

    def unfinished(self) -> list[str]:
        """Names of runs of these flows and their tasks that claim to be at work."""
        held = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
        these = {"flows": {"name": {"any_": ["inner", "outer"]}}}
        flows = call(f"{self.api}/flow_runs/filter", {**these, "flow_runs": held})
        return [run["name"] for run in flows + call(f"{self.api}/task_runs/filter", {**these, "task_runs": held})]

    def completes(self, run: str) -> None:
        def completed() -> bool:
            kind = self.state(run)["type"]
            assert kind not in ("FAILED", "CRASHED", "CANCELLED")
            return bool(kind == "COMPLETED")

        wait_for("the run completes", completed)


def rows(settings: StackSettings) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in status(settings)}


def wait_for_restart(settings: StackSettings, name: str, old_pid: int) -> None:
    def restarted() -> bool:
        row = rows(settings)[name]
        return bool(row["status"] == "healthy" and row["pid"] != old_pid)

    wait_for(f"{name} is back", restarted)


def listening(settings: StackSettings) -> dict[str, set[str]]:
    """Command -> addresses that a stack's processes, and what they started, accept connections on."""
    found: dict[str, set[str]] = {}
    for process in owned_processes(settings):
        with contextlib.suppress(psutil.NoSuchProcess):
            for socket in process.net_connections("inet"):
                if socket.status == psutil.CONN_LISTEN:
                    found.setdefault(" ".join(process.cmdline()), set()).add(str(socket.laddr[0]))
    return found


@pytest.mark.integration
def test_worker_killed_under_a_flow(stack: dict[str, str], tmp_path: Path) -> None:
    settings = current_settings(stack)
    assert up(settings) is False, "a second `up` finds it running"
    runs = Runs.deploy(stack, tmp_path)
    first, flow_pid, child_pid = runs.start_endless()
    before = rows(settings)
    assert [row["status"] for row in before.values()] == ["healthy"] * 3
    addresses = listening(settings)
    assert len(addresses) >= 2, "the two servers"
    assert set().union(*addresses.values()) == {"127.0.0.1"}, addresses

    # The process tree as far as parents lead; the "trainer" has a session of its own and lives on.
    os.kill(before["worker"]["pid"], signal.SIGKILL)
    os.kill(flow_pid, signal.SIGKILL)
    assert alive(child_pid)
    wait_for_restart(settings, "worker", before["worker"]["pid"])
    assert not alive(flow_pid) and not alive(child_pid), "two writers could run"
    state = runs.state(first)
    assert (state["type"], state["message"].split(",")[0]) == ("CRASHED", "The worker that ran this ended")
    assert runs.unfinished() == [], "nothing, neither subflow nor task, is left running"

    runs.completes(runs.start())
    after = rows(settings)
    assert all(after[name]["pid"] == before[name]["pid"] for name in ("prefect", "mlflow"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.integration
def test_killed_servers_killed_supervisor_and_stop_under_a_flow(tmp_path: Path) -> None:
    with running_stack(tmp_path / "state") as env:
        settings = current_settings(env)
        runs = Runs.deploy(env, tmp_path)
        before = rows(settings)
        for name in ("prefect", "mlflow"):
            os.kill(before[name]["pid"], signal.SIGKILL)
        for name in ("prefect", "mlflow"):
            wait_for_restart(settings, name, before[name]["pid"])
        assert rows(settings)["worker"]["pid"] == before["worker"]["pid"], "the worker waits for its server"
        pids = [p.pid for p in owned_processes(settings, "mlflow")]
        assert len(pids) == 2, "no server process of the killed MLflow is left"

        first, flow_pid, child_pid = runs.start_endless()
        state = recorded_state(settings)
        assert state
        os.kill(state["supervisor"], signal.SIGKILL)
        wait_for("the supervisor is gone", lambda: recorded_state(settings) is None)
        assert up(settings) is True
        assert not alive(flow_pid) and not alive(child_pid)
        assert runs.state(first)["type"] == "CRASHED" and runs.unfinished() == []

        second, flow_pid, child_pid = runs.start_endless()
        assert down(settings) is True
        assert not alive(flow_pid) and not alive(child_pid) and owned_processes(settings) == []
        assert up(settings) is True
        assert runs.state(second)["type"] == "CRASHED" and runs.unfinished() == []
        runs.completes(runs.start())
