"""Close what dead flow processes left open, and end those that nobody wants: `python -m deploy.recovery`, or with
`--every 30` for ever.

A flow process that was killed can report nothing. Its worker, the local stack's supervisor or the automation
`crash-zombie-runs` marks its flow run as crashed; its subflow and task runs and its MLflow run would be RUNNING for
ever. Here they follow the flow run that they belong to. The other way round, a process of this machine may live though
its run was cancelled or has ended: unwanted.py.
"""

import argparse
import logging
import os
import sys
import time
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any

from deploy import unwanted
from deploy.stack.api import HELD_STATES, call
from deploy.stack.logins import mlflow_headers, prefect_headers
from deploy.stack.rows import FLOW_RUNS, IDS, every

logger = logging.getLogger(__name__)

ENDED_STATES = ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]
AGAIN = "Run the deployment again: finished stages are skipped, unfinished ones resume."
# Task runs report through a queue: what has just ended may still say RUNNING.
SETTLED_S = 30.0
SOON_S = 60.0
"""Workers ask for runs before they are due."""
UNREADABLE = (
    "Its parameters held what the server cannot write as JSON: a number beyond 64 bits, broken Unicode, or too many "
    "levels. They were removed: it had kept every worker of the pool from its runs. Start it with others."
)
FLOW_TAG = "prefect.flow_run_id"
"""On every MLflow run: the flow run that works on it, or did last (tasks/tracking.py)."""
MLFLOW_STATUS = {"COMPLETED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED", "CRASHED": "KILLED"}


@dataclass(frozen=True)
class Servers:
    """Where a Prefect and an MLflow server are (`prefect` with /api), and the headers that log in to them."""

    prefect: str
    mlflow: str
    prefect_login: Mapping[str, str] = field(default_factory=dict)
    mlflow_login: Mapping[str, str] = field(default_factory=dict)

    def ask_prefect(self, path: str, payload: object = None) -> Any:
        return call(f"{self.prefect}/{path}", payload, headers=self.prefect_login)

    def change_prefect(self, path: str, changes: object) -> None:
        call(f"{self.prefect}/{path}", changes, headers=self.prefect_login, method="PATCH")

    def ask_mlflow(self, path: str, payload: object) -> Any:
        return call(f"{self.mlflow}/api/2.0/mlflow/{path}", payload, headers=self.mlflow_login)


@dataclass(frozen=True)
class LeftOpen:
    """A run that claims to be at work though the flow run that it belongs to has ended as `ended`, a Prefect state."""

    kind: str
    """flow_runs, task_runs or mlflow."""
    id: str
    name: str
    ended: str

    def __str__(self) -> str:
        noun = {"flow_runs": "subflow run", "task_runs": "task run", "mlflow": "MLflow run"}[self.kind]
        return f"{noun} {self.name}"


def servers_of(variables: Mapping[str, str] = os.environ) -> Servers:
    """The servers that Prefect's and MLflow's own variables name; raises KeyError where one of them is not set."""
    prefect, mlflow = variables["PREFECT_API_URL"].rstrip("/"), variables["MLFLOW_TRACKING_URI"].rstrip("/")
    return Servers(prefect, mlflow, prefect_headers(variables), mlflow_headers(variables))


def crash_held_runs(servers: Servers, pool: str, reason: str) -> list[str]:
    """Mark as CRASHED every flow run that a worker of the pool held, and close what they left open; returns names.

    To be called when no worker and no flow process of the pool lives. Prefect itself would leave them RUNNING for
    ever, with their concurrency slots (PrefectHQ/prefect#16746).

    Raises:
        OSError: a server does not answer.
    """
    held = {"flow_runs": {"state": {"type": {"any_": HELD_STATES}}}, "work_pools": {"name": {"any_": [pool]}}}
    found = every(servers.ask_prefect, FLOW_RUNS, held)
    runs = {run["id"]: run["name"] for run in found.rows} | {run: run for run in found.unreadable}
    for run in runs:
        _set_state(servers, "flow_runs", run, "CRASHED", f"{reason} {AGAIN}")
    if runs:
        tidy(servers, settled_s=0.0)
    return list(runs.values())


def crash_unreadable_runs(servers: Servers) -> list[str]:
    """Crash the scheduled runs that the server cannot write as JSON, and empty their parameters; returns their ids.

    No worker gets any run while such a one is among those that are due.

    Raises:
        OSError: the server does not answer.
    """
    due = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": _before(-SOON_S)}}
    runs = every(servers.ask_prefect, FLOW_RUNS, {"flow_runs": due}).unreadable
    for run in runs:
        servers.change_prefect(f"flow_runs/{run}", {"parameters": {}})
        _set_state(servers, "flow_runs", run, "CRASHED", UNREADABLE)
    return runs


def tidy(servers: Servers, settled_s: float = SETTLED_S) -> list[LeftOpen]:
    """Close everything that `left_open` finds, at all levels of subflows; returns it.

    Raises:
        OSError: a server does not answer.
    """
    closed: list[LeftOpen] = []
    while found := [*open_runs(servers, settled_s), *open_tracking_runs(servers, settled_s)]:
        for run in found:
            if run.kind == "mlflow":
                now = int(time.time() * 1000)
                update = {"run_id": run.id, "status": MLFLOW_STATUS[run.ended], "end_time": now}
                servers.ask_mlflow("runs/update", update)
                continue
            # Below a flow run that completed, only the report of the end can have been lost.
            state = "COMPLETED" if run.ended == "COMPLETED" else "CRASHED"
            message = f"The flow run that this belongs to ended as {run.ended}; this did not report its own end."
            _set_state(servers, run.kind, run.id, state, message)
        closed += found
        # What has been closed just now has ended just now; what it left open has waited as long.
        settled_s = 0.0
    return closed


def open_runs(servers: Servers, settled_s: float = SETTLED_S) -> list[LeftOpen]:
    """Task and subflow runs that claim to be at work below a flow run that ended `settled_s` seconds ago or earlier.

    Raises:
        OSError: the server does not answer.
    """
    held = {"state": {"type": {"any_": HELD_STATES}}}
    found = []
    for ended in ENDED_STATES:
        parents = {"state": {"type": {"any_": [ended]}}, "end_time": {"before_": _before(settled_s)}}
        query = {"task_runs": held, "flow_runs": parents}
        found += [LeftOpen("task_runs", t["id"], t["name"], ended) for t in _pages(servers, "task_runs/filter", query)]
    subflows = {"flow_runs": {**held, "parent_task_run_id": {"is_null_": False}}}
    for run in _pages(servers, "flow_runs/filter", subflows):
        task = servers.ask_prefect(f"task_runs/{run['parent_task_run_id']}")
        if end := _ended(servers, task["flow_run_id"], settled_s):
            found.append(LeftOpen("flow_runs", run["id"], run["name"], end))
    return found


def open_tracking_runs(servers: Servers, settled_s: float = SETTLED_S) -> list[LeftOpen]:
    """MLflow runs that are RUNNING though the flow run in their tag ended `settled_s` seconds ago or earlier.

    Raises:
        OSError: a server does not answer.
    """
    experiments = [one["experiment_id"] for one in _tracked(servers, "experiments", {})]
    query = {"experiment_ids": experiments, "filter": "attributes.status = 'RUNNING'"}
    found = []
    for run in _tracked(servers, "runs", query) if experiments else ():
        tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
        if FLOW_TAG in tags and (ended := _ended(servers, tags[FLOW_TAG], settled_s)):
            found.append(LeftOpen("mlflow", run["info"]["run_id"], run["info"].get("run_name", ""), ended))
    return found


def watch(servers: Servers, every_s: float) -> None:
    """`tidy` every so many seconds, for ever, and end the processes of unwanted runs; a server that does not answer is
    asked again the next time."""
    unwanted.watch_beside(servers.ask_prefect, servers.prefect)
    while True:
        try:
            for unreadable in crash_unreadable_runs(servers):
                logger.warning("crashed flow run %s: the server could not write its parameters", unreadable)
            for run in tidy(servers):
                logger.warning("closed %s: its flow run ended as %s", run, run.ended)
        except (OSError, HTTPException, KeyError, TypeError) as error:  # also an answer that was cut short
            logger.info("cannot look for what dead runs left open: %s", error)
        time.sleep(every_s)


def _ended(servers: Servers, flow_run: str, settled_s: float) -> str | None:
    """The state type of a flow run that ended long enough ago; None where it has not, or is of another server."""
    try:
        run = servers.ask_prefect(f"flow_runs/{flow_run}")
    except urllib.error.HTTPError as error:
        if error.code == 500:  # it cannot write the run, but say how it ended
            found = servers.ask_prefect(IDS, {"flow_runs": {"id": {"any_": [flow_run]}}})
            return next((str(one["state_type"]) for one in found if one["state_type"] in ENDED_STATES), None)
        if error.code not in (404, 422):
            raise
        return None
    settled = run["state_type"] in ENDED_STATES and (run["end_time"] or "") < _before(settled_s)
    return str(run["state_type"]) if settled else None


def _before(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def _set_state(servers: Servers, kind: str, run: str, state: str, message: str) -> None:
    body = {"type": state, "name": state.capitalize(), "message": message}
    servers.ask_prefect(f"{kind}/{run}/set_state", {"state": body, "force": True})


def _pages(servers: Servers, path: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All rows of a filter query of Prefect's but those that the server cannot write, which are named."""
    found = every(servers.ask_prefect, path, query)
    for run in found.unreadable:
        logger.warning("the server cannot write %s: it is left out", run)
    return found.rows


def _tracked(servers: Servers, kind: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All rows of a search of MLflow's."""
    rows: list[dict[str, Any]] = []
    token = ""
    while True:
        page = servers.ask_mlflow(f"{kind}/search", {**query, "max_results": 200, "page_token": token})
        rows += page.get(kind, [])
        token = page.get("next_page_token", "")
        if not token:
            return rows


def main() -> int:
    """Do it now, or keep doing it; 1 when the environment names no servers or one does not answer."""
    parser = argparse.ArgumentParser(prog="python -m deploy.recovery", description="Close what dead runs left open.")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="go on for ever, looking this often")
    every = parser.parse_args().every
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        servers = servers_of()
        if every:
            watch(servers, every)
        for ended in unwanted.end_now(servers.ask_prefect, servers.prefect):
            print(f"ended {ended}")
        for unreadable in crash_unreadable_runs(servers):
            print(f"crashed flow run {unreadable}: the server could not write its parameters")
        for run in tidy(servers):
            print(f"closed {run}: its flow run ended as {run.ended}")
    except KeyError as error:
        print(f"error: {error.args[0]} is not set: export your servers' addresses", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: a server does not answer: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
