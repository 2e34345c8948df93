"""A real stack on free ports: kill the worker under a running flow, then see what a user of the stack would see."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.stack import StackSettings, running_stack, status, up
from deploy.stack.api import call
from deploy.stack.processes import owned_processes
from deploy.stack.settings import ROOT

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
    name="test", work_pool_name="local", parameters={"pids": sys.argv[2]}, print_next_steps=False)
"""


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = 90.0) -> Any:
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


@pytest.mark.integration
def test_worker_killed_under_a_flow(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    (tmp_path / "flows_under_test.py").write_text(FLOWS)
    with running_stack(tmp_path / "state") as env:
        api = env["PREFECT_API_URL"]
        settings = StackSettings(
            Path(env["PIPELINE_STATE"]),
            int(api.split(":")[2].split("/")[0]),
            int(env["MLFLOW_TRACKING_URI"].split(":")[2]),
        )
        assert up(settings) is False, "a second `up` finds it running"
        arguments = [sys.executable, "-c", DEPLOY, str(tmp_path), str(pids)]
        subprocess.run(arguments, env=env, cwd=ROOT, check=True, timeout=120)
        deployment = call(f"{api}/deployments/name/outer/test")["id"]
        first = call(f"{api}/deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"]
        flow_pid, child_pid = map(int, wait_for("the flow runs", lambda: pids.exists() and pids.read_text()).split())
        before = {row["name"]: row for row in status(settings)}
        assert [row["status"] for row in before.values()] == ["healthy"] * 3

        # The process tree as far as parents lead; the "trainer" has a session of its own and lives on.
        os.kill(before["worker"]["pid"], signal.SIGKILL)
        os.kill(flow_pid, signal.SIGKILL)
        assert alive(child_pid)

        def restarted() -> bool:
            row = {r["name"]: r for r in status(settings)}["worker"]
            return row["status"] == "healthy" and row["pid"] != before["worker"]["pid"]

        wait_for("the worker is back", restarted)
        assert not alive(flow_pid) and not alive(child_pid), "two writers could run"
        state = call(f"{api}/flow_runs/{first}")["state"]
        assert (state["type"], state["message"].split(",")[0]) == ("CRASHED", "The worker that ran this ended")
        held = call(f"{api}/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}})
        tasks = call(f"{api}/task_runs/filter", {"task_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}})
        assert [run["name"] for run in held + tasks] == [], "nothing, neither subflow nor task, is left running"

        second = call(f"{api}/deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"]

        def completed() -> bool:
            kind = call(f"{api}/flow_runs/{second}")["state"]["type"]
            assert kind not in ("FAILED", "CRASHED", "CANCELLED")
            return bool(kind == "COMPLETED")

        wait_for("the same deployment completes", completed)
        servers = {row["name"]: row["pid"] for row in status(settings)}
        assert servers["prefect"] == before["prefect"]["pid"] and servers["mlflow"] == before["mlflow"]["pid"]
    assert status(settings) == []
    assert owned_processes(settings) == []
