"""Processes whose flow run was cancelled or has ended are ended, and nobody else's; the states are imitated."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError

import psutil
import pytest

from deploy.unwanted import RUN_VARIABLE, WORKER_VARIABLE, Ender, _lock_file, _locked, end_now, unwanted

PARENT = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'],"
PARENT += " start_new_session=True); print('ready', flush=True); time.sleep(99)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)"
STUBBORN += "; time.sleep(99)"


class Prefect:
    """Flow runs by id, and what was set."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}

    def run(self, kind: str, seconds: float) -> str:
        run_id = str(uuid.uuid4())
        self.set(run_id, {"type": kind, "name": kind.capitalize()}, seconds)
        return run_id

    def set(self, run_id: str, state: dict[str, Any], seconds: float = 0.0) -> None:
        since = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
        self.runs[run_id] = {"name": run_id[:8], "state": {**state, "timestamp": since}}

    def ask(self, path: str, payload: Any) -> Any:
        run_id = path.split("/")[1]
        if run_id not in self.runs:
            raise HTTPError(path, 404, "not found", None, None)  # type: ignore[arg-type]
        if payload is not None:
            assert payload["force"]
            self.set(run_id, payload["state"])
        return self.runs[run_id]


@pytest.fixture
def started() -> Iterator[Any]:
    """Start a process as a flow run's; with all of its children it is gone after the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(run_id: str, code: str = PARENT, worker: str | None = "1") -> psutil.Process:
        variables = os.environ | {RUN_VARIABLE: run_id} | ({WORKER_VARIABLE: worker} if worker else {})
        process = subprocess.Popen([sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return psutil.Process(process.pid)

    yield start
    for process in processes:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_only_what_has_long_been_cancelled_or_ended_is_unwanted(started: Any) -> None:
    prefect = Prefect()
    wanted = [("RUNNING", 999), ("CANCELLING", 5), ("CANCELLED", 5), ("COMPLETED", 60), ("SCHEDULED", 999)]
    ended = [("CANCELLING", 40), ("CANCELLED", 40), ("CRASHED", 40), ("FAILED", 999), ("COMPLETED", 999)]
    for kind, seconds in wanted:
        started(prefect.run(kind, seconds))
    started(str(uuid.uuid4()))  # of another server
    started(prefect.run("CANCELLED", 999), worker=None)  # somebody else's worker's
    expected = {}
    for kind, seconds in ended:
        run_id = prefect.run(kind, seconds)
        expected[run_id] = started(run_id)
    found = unwanted(prefect.ask)
    assert {run.id for run in found} == set(expected)
    for run in found:
        assert {p.pid for p in run.processes} == {
            p.pid for p in [expected[run.id], *expected[run.id].children(recursive=True)]
        }


def test_the_outermost_process_is_asked_first_and_all_are_killed_after_the_grace(started: Any) -> None:
    prefect = Prefect()
    run_id = prefect.run("CANCELLING", 40)
    flow = started(run_id)
    (child,) = flow.children()
    ender = Ender(prefect.ask, grace_s=0.5)
    assert [run.id for run in ender.look()] == [run_id]
    flow.wait(20)
    assert child.is_running(), "its parent's to stop, within the grace"
    # What a flow says that was ended by a signal.
    prefect.set(run_id, {"type": "CRASHED", "name": "Crashed", "message": "Execution was aborted."})
    time.sleep(0.6)
    while ender.look():
        time.sleep(0.1)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert prefect.runs[run_id]["state"]["type"] == "CANCELLED"
    assert prefect.runs[run_id]["state"]["message"].startswith("Cancelled; its worker had not heard of it")


def test_now_waits_until_they_are_gone_unless_another_process_watches(started: Any) -> None:
    prefect = Prefect()
    run_id = prefect.run("FAILED", 999)
    flow = started(run_id, STUBBORN)
    server = f"http://{run_id}/api"
    with _lock_file(server) as file:
        assert _locked(file)
        assert end_now(prefect.ask, server, 0.5) == []
    assert flow.is_running()
    assert [run.id for run in end_now(prefect.ask, server, 0.5)] == [run_id]
    assert flow.status() == psutil.STATUS_ZOMBIE
    assert prefect.runs[run_id]["state"]["type"] == "FAILED"
