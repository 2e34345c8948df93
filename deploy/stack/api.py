"""The few HTTP calls to the servers that supervision needs, without importing Prefect or MLflow (seconds each)."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from deploy.stack.settings import WORK_POOL, StackSettings

WORKER_NAME = "local-1"
RETRY_S = 1.0
# What a run can be in while a worker holds it. SCHEDULED runs stay: the next worker takes them.
HELD_STATES = ["PENDING", "RUNNING", "CANCELLING"]

# No proxy, whatever the environment says: the servers are on this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(
    url: str,
    payload: object = None,
    timeout_s: float = 10.0,
    attempts: int = 10,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """POST `payload` as JSON, or GET without one; returns the decoded answer, or its text when it is not JSON.

    A 503 is asked again after a second: Prefect answers so, having done nothing, when SQLite is busy. `headers` hold a
    login (logins.py).

    Raises:
        OSError: no answer, or an HTTP error status.
    """
    data = None if payload is None else json.dumps(payload).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **(headers or {})})
    try:
        with _opener.open(request, timeout=timeout_s) as response:
            body = response.read().decode()
    except urllib.error.HTTPError as error:
        if error.code != 503 or attempts <= 1:
            raise
        time.sleep(RETRY_S)
        return call(url, payload, timeout_s, attempts - 1, headers)
    try:
        return json.loads(body)
    except ValueError:
        return body


def answers(url: str, timeout_s: float = 3.0) -> bool:
    """Whether a GET of the URL succeeds."""
    try:
        call(url, timeout_s=timeout_s, attempts=1)
    except OSError:
        return False
    return True


def worker_is_online(settings: StackSettings, since: float) -> bool:
    """Whether the worker has reported to the work pool after `since` (seconds since the epoch)."""
    url = f"{settings.prefect_url}/api/work_pools/{WORK_POOL}/workers/filter"
    try:
        workers = call(url, {}, timeout_s=3.0, attempts=1)
    except OSError:  # also 404: the worker has not created the pool yet
        return False
    seen = [w["last_heartbeat_time"] for w in workers if w["name"] == WORKER_NAME and w["last_heartbeat_time"]]
    return any(datetime.fromisoformat(moment).timestamp() >= since for moment in seen)


def crash_abandoned_runs(settings: StackSettings, reason: str) -> list[str]:
    """Mark as CRASHED every flow run that a worker of the pool held, with its subflow and task runs; returns names.

    To be called when no worker and no flow process of the stack lives. Prefect itself would leave them RUNNING for
    ever, with their concurrency slots (PrefectHQ/prefect#16746).

    Raises:
        OSError: the Prefect server does not answer.
    """
    api = f"{settings.prefect_url}/api"
    message = f"{reason} Run the deployment again: finished stages are skipped, unfinished ones resume."
    crashed = {"state": {"type": "CRASHED", "name": "Crashed", "message": message}, "force": True}
    held = {"state": {"type": {"any_": HELD_STATES}}}
    names: list[str] = []

    runs = _every(f"{api}/flow_runs/filter", {"work_pools": {"name": {"any_": [WORK_POOL]}}, "flow_runs": held})
    while runs:
        ids = [run["id"] for run in runs]
        tasks = _every(f"{api}/task_runs/filter", {"flow_runs": {"id": {"any_": ids}}, "task_runs": held})
        # Subflows run in their parent's process and belong to no work pool. Looked up before their parents are closed.
        subflows = _every(f"{api}/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": ids}, **held}})
        for task in tasks:
            call(f"{api}/task_runs/{task['id']}/set_state", crashed)
        for run in runs:
            call(f"{api}/flow_runs/{run['id']}/set_state", crashed)
            names.append(run["name"])
        runs = subflows
    return names


def _every(url: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    """All pages of a filter query."""
    rows: list[dict[str, Any]] = []
    while True:
        page = call(url, query | {"limit": 200, "offset": len(rows)})
        rows += page
        if len(page) < 200:
            return rows
