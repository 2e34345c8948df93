"""Flow runs that claim to run and do not (zombies), those that were cancelled or have ended and run on, and runs that
have waited for long.

Prefect leaves a run RUNNING, with its slots, when its process or worker is killed (PrefectHQ/prefect#16746).
"""

import json
import shlex
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from deploy.doctor.findings import Finding, error, ok, warning
from deploy.doctor.servers import Server
from deploy.doctor.surroundings import Surroundings
from deploy.stack.api import HELD_STATES
from deploy.stack.rows import FLOW_RUNS, PAGE, every
from deploy.unwanted import Unwanted, unwanted

CHECK = "flow runs"
HEARTBEAT = "prefect.flow-run.heartbeat"
MISSED = 3
"""Heartbeats in a row that a living run does not miss."""
OUTAGE = timedelta(minutes=5)
"""For so long the server may have been away itself; deploy/automations.yaml waits as long before it crashes a run."""
PATIENCE = timedelta(minutes=10)
WAITING_STATES = ["AwaitingConcurrencySlot", "Late"]
NEWEST = {"sort": "EXPECTED_START_TIME_DESC"}
"""The page of runs that the UI shows first."""


def flow_runs(surroundings: Surroundings, now: datetime | None = None) -> Iterator[Finding]:
    """Zombies, runs between two states, runs that go on, runs that wait; else how many run."""
    if not (server := surroundings.prefect):
        return
    moment = now or datetime.now(UTC)
    unreadable = every(server.ask, FLOW_RUNS, NEWEST, PAGE).unreadable
    held = server.every("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": HELD_STATES}}}})
    waiting = server.every("flow_runs/filter", {"flow_runs": {"state": {"name": {"any_": WAITING_STATES}}}})
    quiet = _quiet_period(server) if held else timedelta()
    findings = [_judge(server, run, moment, quiet) for run in held]
    findings += [_runs_on(run) for run in unwanted(server.ask, moment)]
    findings += [_waits(run) for run in waiting if moment - _since(run["expected_start_time"]) > PATIENCE]
    wrong = [*map(_unreadable, unreadable), *(finding for finding in findings if finding)]
    yield from wrong
    if not wrong:
        yield ok(CHECK, f"{len(held)} run, none is stuck")


def _unreadable(run: str) -> Finding:
    what = f"the server cannot write the parameters of flow run {run}: every list of runs that it is part of fails"
    command = ["prefect", "api", "PATCH", f"/flow_runs/{run}", "--data", json.dumps({"parameters": {}})]
    return error(CHECK, what, f"{shlex.join(command)}  # then start it with others")


def _judge(server: Server, run: Mapping[str, Any], now: datetime, quiet: timedelta) -> Finding | None:
    age = now - _since(run["state"]["timestamp"])
    where = f" in queue {run['work_queue_name']} of {run['work_pool_name']}" if run["work_pool_name"] else ""
    about = f"{run['name']} is {run['state']['name']}{where}"
    if _process_is_gone(run["infrastructure_pid"]):
        return error(CHECK, f"{about}, but its process {run['infrastructure_pid']} is gone", _crash(run))
    if run["state_type"] == "RUNNING":
        if age > quiet and not _beats(server, run["id"], now - quiet, now):
            return error(CHECK, f"{about}, but has sent no heartbeat for {_minutes(quiet)}", _crash(run))
    elif age > PATIENCE:
        return error(CHECK, f"{about} for {_minutes(age)} and holds its slots", _crash(run))
    return None


def _runs_on(run: Unwanted) -> Finding:
    remedy = "`python -m deploy.recovery` ends it (each worker does so within a minute, unless it is gone or hangs)"
    return error(CHECK, f"{run} should have ended, but is at work on this machine", remedy)


def _waits(run: Mapping[str, Any]) -> Finding:
    where = f"queue {run['work_queue_name']} of {run['work_pool_name']}"
    remedy = (
        f"see who holds its slots: prefect flow-run ls --state RUNNING, prefect gcl ls; "
        f"or give it up: prefect flow-run cancel {run['id']}"
    )
    return warning(
        CHECK, f"{run['name']} waits ({run['state']['name']}) in {where} for over {_minutes(PATIENCE)}", remedy
    )


def _quiet_period(server: Server) -> timedelta:
    """Without a heartbeat for this long a run is dead; workers with a shorter interval only beat more often."""
    every = server.ask("admin/settings").get("flows", {}).get("heartbeat_frequency") or 180
    return max(timedelta(seconds=MISSED * every), OUTAGE)


def _beats(server: Server, run: str, since: datetime, until: datetime) -> bool:
    query = {
        "occurred": {"since": since.isoformat(), "until": until.isoformat()},
        "event": {"name": [HEARTBEAT]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    return bool(server.ask("events/filter", {"filter": query, "limit": 1})["events"])


def _process_is_gone(infrastructure: str | None) -> bool:
    """`<host>:<pid>` of a process worker on this machine, whose process does not exist."""
    host, _, pid = (infrastructure or "").rpartition(":")
    return host == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid))


def _crash(run: Mapping[str, Any]) -> str:
    state = {"state": {"type": "CRASHED", "name": "Crashed", "message": "Its process is gone."}, "force": True}
    command = ["prefect", "api", "POST", f"/flow_runs/{run['id']}/set_state", "--data", json.dumps(state)]
    return f"{shlex.join(command)}  # then run the deployment again: it continues"


def _since(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:.0f} min"
