"""Runs of deployments on the local stack, by Prefect's API: start one, follow it, cancel it, read what it left."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

from deploy.stack import StackError, StackSettings
from deploy.stack.api import call
from deploy.stack.rows import FLOW_RUNS, every

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
PAINTING = "paint-and-judge"
POLL_S = 2.0
TELL_S = 15.0
"""Progress is told no more often than this."""
PATIENCE_S = 240.0
"""The supervisor starts a server that died again; until then the run goes on."""


@dataclass(frozen=True)
class FlowRun:
    """One flow run; `seconds` is how long it ran."""

    id: str
    name: str
    state: str
    """Prefect's type of state: SCHEDULED, RUNNING, COMPLETED, ..."""
    message: str
    seconds: float


def runs_named(settings: StackSettings, prefix: str) -> list[FlowRun]:
    """Every run whose name begins so, oldest first."""
    query = {"flow_runs": {"name": {"like_": prefix}}, "sort": "EXPECTED_START_TIME_ASC"}
    found = [_flow_run(raw) for raw in every(lambda path, given: ask(settings, path, given), FLOW_RUNS, query).rows]
    return [run for run in found if run.name.startswith(prefix)]


def start(settings: StackSettings, deployment: str, name: str, parameters: dict[str, Any]) -> FlowRun:
    """Start `<flow>/<deployment>` with these parameters in place of its own.

    Raises:
        StackError: there is no such deployment, or it does not take the parameters.
    """
    try:
        known = ask(settings, f"deployments/name/{quote(deployment)}")
    except HTTPError as error:
        if error.code != 404:
            raise
        raise StackError(f"There is no deployment {deployment}.\n-> make deploy") from error
    asked = {"name": name, "parameters": parameters, "state": {"type": "SCHEDULED"}}
    try:
        return _flow_run(ask(settings, f"deployments/{known['id']}/create_flow_run", asked))
    except HTTPError as error:
        raise StackError(f"{deployment} with {parameters} was refused: {error.read().decode()}") from error


def follow(settings: StackSettings, run: FlowRun, tell: Callable[[str], None]) -> FlowRun:
    """Wait until the run has ended; `tell` gets its states, and now and then its progress."""
    state, said, told = "", "", 0.0

    def look(run: FlowRun) -> None:
        nonlocal state, said, told
        progress = _progress(settings, run) if run.state == "RUNNING" else ""
        if run.state != state:
            state = run.state
            tell(state.lower())
        if progress != said and any(map(str.isdigit, progress)) and time.monotonic() - told >= TELL_S:
            said, told = progress, time.monotonic()
            tell(progress)

    return watch(settings, run, look)


def watch(settings: StackSettings, run: FlowRun, look: Callable[[FlowRun], None]) -> FlowRun:
    """Wait until the run has ended; `look` gets it every `POLL_S`, and may ask the server more.

    Raises:
        OSError: the server has not answered for `PATIENCE_S`.
    """
    heard = time.monotonic()
    while True:
        try:
            run = _flow_run(ask(settings, f"flow_runs/{run.id}"))
            look(run)
            heard = time.monotonic()
        except OSError:
            if time.monotonic() - heard > PATIENCE_S:
                raise
        else:
            if run.state in ENDED:
                return run
        time.sleep(POLL_S)


def cancel(settings: StackSettings, run: FlowRun) -> None:
    """Ask for the run's end; its processes get a SIGTERM and leave checkpoints."""
    ask(settings, f"flow_runs/{run.id}/set_state", {"state": {"type": "CANCELLING"}})


def dataset_of(settings: StackSettings, run: FlowRun, stage: str) -> str:
    """URI of the dataset that a run's stage left (the artifact of tasks/outcome.py).

    Raises:
        StackError: the run left none.
    """
    key = f"{stage}-dataset"
    query = {"artifacts": {"flow_run_id": {"any_": [run.id]}, "key": {"any_": [key]}}}
    for artifact in ask(settings, "artifacts/filter", query):
        if found := re.search(r"^`(.+)`$", artifact["data"], re.MULTILINE):
            return found[1]
    raise StackError(f"The run {run.name} left no artifact {key}.\n-> make logs")


def ask(settings: StackSettings, path: str, payload: object = None) -> Any:
    """What Prefect's API answers: to a GET, or to a POST of `payload`."""
    return call(f"{settings.prefect_url}/api/{path}", payload)


def _progress(settings: StackSettings, run: FlowRun) -> str:
    """The progress that moved last, the run's own or that of painting and judging, which are a subflow; or nothing."""
    below = {
        "flow_runs": {"parent_flow_run_id": {"any_": [run.id]}, "state": {"type": {"any_": ["RUNNING"]}}},
        "flows": {"name": {"any_": [PAINTING]}},
    }
    runs = [run.id, *(raw["id"] for raw in ask(settings, "flow_runs/filter", below))]
    query = {
        "artifacts": {"flow_run_id": {"any_": runs}, "type": {"any_": ["progress"]}},
        "sort": "UPDATED_DESC",
        "limit": 1,
    }
    found = ask(settings, "artifacts/filter", query)
    return str(found[0]["description"]) if found else ""


def _flow_run(raw: dict[str, Any]) -> FlowRun:
    state = raw.get("state") or {}
    return FlowRun(
        raw["id"],
        raw["name"],
        raw.get("state_type") or state.get("type") or "SCHEDULED",
        state.get("message") or "",
        float(raw.get("total_run_time") or 0.0),
    )
