"""End processes of flow runs that were cancelled or have ended, where their worker has not done so.

A worker hears of a cancellation once, over a connection to the Prefect server. After the server was killed and came
back it may not hear of it (Prefect 3.8.8): the run would become CANCELLED after five minutes and work on. Here the
processes on this machine are compared with the states of their runs.
"""

import contextlib
import fcntl
import logging
import os
import threading
import time
import urllib.error
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from typing import IO, Any

import psutil

from deploy.stack.processes import FLOW_GRACE_S
from pipeline_lib.core.digest import digest
from pipeline_lib.core.errors import PipelineError
from pipeline_lib.core.private import private_folder

logger = logging.getLogger(__name__)

RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
"""Prefect gives it to a flow run's process, whose children inherit it."""
WORKER_VARIABLE = "PIPELINE_WORKER"
"""deploy/worker.py gives it to all that it starts: runs of others are not ours to end."""
EVERY_S = 10.0
PATIENCE_S = {
    # A worker that has heard of it sends SIGTERM at once and SIGKILL after 30 s.
    "CANCELLING": 30.0,
    "CANCELLED": 30.0,
    "CRASHED": 30.0,
    # Such a process reported its own end, and sends its last logs.
    "FAILED": 120.0,
    "COMPLETED": 120.0,
}
"""How long a run has been in a state before its processes are ended."""

Ask = Callable[[str, object], Any]
"""Calls Prefect's API: the path, and what is posted, None for a GET."""


@dataclass(frozen=True)
class Unwanted:
    """A flow run that was cancelled or has ended, and its living processes on this machine, the outermost first."""

    id: str
    name: str
    state: Mapping[str, Any]
    processes: tuple[psutil.Process, ...]

    def __str__(self) -> str:
        pids = ", ".join(str(process.pid) for process in self.processes)
        return f"{self.name} ({self.state['type']} since {self.state['timestamp'][:19]}; processes {pids})"


def unwanted(ask: Ask, now: datetime | None = None, told: Container[str] = ()) -> list[Unwanted]:
    """The flow runs whose processes should have ended. Runs that the server does not know are left alone.

    Args:
        told: ids of runs whose processes were told to end: what they report then begins no new wait.

    Raises:
        OSError: the server does not answer.
    """
    found = []
    for run_id, processes in _processes().items():
        try:
            run = ask(f"flow_runs/{run_id}", None)
        except urllib.error.HTTPError as error:
            if error.code not in (404, 422):
                logger.warning("cannot read flow run %s: %s", run_id, error)
            continue
        state = run["state"] or {}
        patience = PATIENCE_S.get(state.get("type", ""), float("inf"))
        if _age(state, now) > patience or (run_id in told and patience < float("inf")):
            found.append(Unwanted(run_id, run["name"], state, tuple(processes)))
    return found


@dataclass
class Ender:
    """Ends the processes of unwanted runs: SIGTERM, and SIGKILL for what is left after the grace of a trainer."""

    ask: Ask
    grace_s: float = FLOW_GRACE_S
    told: dict[str, float] = field(default_factory=dict)
    """When a run's processes got SIGTERM, by the id of the run."""
    ended: dict[str, Unwanted] = field(default_factory=dict)

    def look(self) -> list[Unwanted]:
        """Signal what is due, and have runs keep the state that they had; returns the runs that have processes.

        Raises:
            OSError: the server does not answer.
        """
        left = unwanted(self.ask, told=self.told)
        for run in left:
            if run.id not in self.told:
                logger.warning("ending %s", run)
                self.told[run.id], self.ended[run.id] = time.monotonic(), run
                outermost = {process.pid for process in run.processes}
                for process in run.processes:
                    with contextlib.suppress(psutil.Error):
                        if process.ppid() not in outermost:  # it stops what it has started
                            process.terminate()
            elif time.monotonic() - self.told[run.id] > self.grace_s:
                for process in run.processes:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
        for run_id in self.told.keys() - {run.id for run in left}:
            self._settle(self.ended[run_id])
            del self.told[run_id], self.ended[run_id]
        return left

    def _settle(self, run: Unwanted) -> None:
        """A process that got SIGTERM reports that it crashed: the run keeps the state for which it got it."""
        kind = "CANCELLED" if run.state["type"] == "CANCELLING" else run.state["type"]
        now = self.ask(f"flow_runs/{run.id}", None)["state"]
        if now["type"] in ("CANCELLING", "CRASHED") and now["type"] != kind:
            message = run.state.get("message") or ""
            if kind == "CANCELLED":
                message = "Cancelled; its worker had not heard of it, so its process was ended on its machine."
            state = {"type": kind, "name": kind.capitalize(), "message": message}
            self.ask(f"flow_runs/{run.id}/set_state", {"state": state, "force": True})


def end_now(ask: Ask, server: str, grace_s: float = FLOW_GRACE_S) -> list[Unwanted]:
    """End the processes of all unwanted runs and wait for it; none where another process watches. Returns the runs.

    Raises:
        OSError: the server does not answer.
    """
    ender, found = Ender(ask, grace_s), list[Unwanted]()
    with _lock_file(server) as file:
        if not _locked(file):
            return []
        while left := ender.look():
            found = found or left
            time.sleep(1.0)
    return found


def watch(ask: Ask, server: str, every_s: float = EVERY_S) -> None:
    """`Ender.look` for ever, by one process of this user on this machine; `server` is Prefect's address.

    One, because a second SIGTERM would cut a trainer's last checkpoint short.
    """
    try:
        lock = _lock_file(server)
    except PipelineError as error:
        logger.error("nobody looks for processes of cancelled runs: %s", error)
        return
    with lock:
        while not _locked(lock):
            time.sleep(every_s)
        ender = Ender(ask)
        while True:
            try:
                ender.look()
            except (OSError, HTTPException, KeyError, TypeError, psutil.Error) as error:
                logger.info("cannot look for processes of cancelled runs: %s", error)
            time.sleep(every_s)


def watch_beside(ask: Ask, server: str) -> None:
    """`watch` in a thread that ends with the process."""
    threading.Thread(target=watch, args=(ask, server), daemon=True).start()


def _lock_file(server: str) -> IO[str]:
    return (private_folder("watch") / digest([server.rstrip("/")], 16)).open("w")


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _processes() -> dict[str, list[psutil.Process]]:
    """Living processes of this user that workers of this project started, by flow run."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            marks = process.environ()
            if WORKER_VARIABLE not in marks or process.uids().real != os.getuid():
                continue
            if run_id := marks.get(RUN_VARIABLE):
                found.setdefault(run_id, []).append(process)
    return found


def _age(state: Mapping[str, Any], now: datetime | None = None) -> float:
    if not state:
        return 0.0
    return ((now or datetime.now(UTC)) - datetime.fromisoformat(state["timestamp"])).total_seconds()
