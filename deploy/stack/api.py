"""The few HTTP calls to the servers that supervision needs, without importing Prefect or MLflow (seconds each)."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from http.client import HTTPException
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
    method: str | None = None,
) -> Any:
    """POST `payload` as JSON, or GET without one; returns the decoded answer, or its text when it is not JSON.

    A 503 is asked again after a second: Prefect answers so, having done nothing, when SQLite is busy. `headers` hold a
    login (logins.py); `method` takes the place of POST.

    Raises:
        OSError: no answer, or an HTTP error status.
    """
    data = None if payload is None else json.dumps(payload).encode()
    about = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data=data, headers=about, method=method)
    try:
        with _opener.open(request, timeout=timeout_s) as response:
            body = response.read().decode()
    except urllib.error.HTTPError as error:
        if error.code != 503 or attempts <= 1:
            raise
        time.sleep(RETRY_S)
        return call(url, payload, timeout_s, attempts - 1, headers, method)
    except HTTPException as error:  # of a server that was killed while it answered
        raise ConnectionError(f"{url}: the answer was cut short: {error!r}") from error
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
