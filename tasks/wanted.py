"""Whether a flow run is still wanted: asked before anything is published, as a cancellation can miss its process."""

from __future__ import annotations

import time
from collections.abc import Iterator

from httpx import HTTPError, HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelled

from pipeline_lib.core.errors import PublishError

PATIENCE_S = 300.0
"""How long a Prefect server that does not answer is asked again."""
LONGEST_PAUSE_S = 30.0


class Unwanted(Abort):
    """The flow run was cancelled or has ended: nothing of it is published, and Prefect leaves its state as it is."""


def require_wanted(what: str, patience_s: float = PATIENCE_S) -> None:
    """Go on only if the present flow run and those above it are at work; outside flows nobody is asked.

    Args:
        what: what is about to be published, such as "register balanced-shapes".

    Raises:
        Unwanted: one of them was cancelled or has ended.
        PublishError: the Prefect server does not answer for `patience_s` seconds.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    deadline, pause = time.monotonic() + patience_s, 1.0
    while True:
        try:
            with get_client(sync_client=True) as client:
                _check(client, context.flow_run, what)
            return
        except (HTTPError, OSError) as error:
            if isinstance(error, HTTPStatusError) and error.response.status_code < 500:
                raise
            if time.monotonic() > deadline:
                raise PublishError(
                    f"{what}: the Prefect server does not say whether this run is still wanted: {error}.",
                    "Run the deployment again when the server answers: finished stages are skipped.",
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _check(client: SyncPrefectClient, flow_run: FlowRun, what: str) -> None:
    for run in _upwards(client, flow_run):
        state = run.state
        if state is None or not (state.is_final() or state.is_cancelling()):
            continue
        said = f"{run.name} is {state.name}"
        get_run_logger().error("%s: refused, because the flow run %s", what, said)
        if state.is_cancelling():  # who heard of it so late answers for its worker, which has not heard of it
            message = "Cancelled; it had not heard of it until it was about to publish something, and did not."
            client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
        raise Unwanted(f"{what}: nothing is published, because the flow run {said}")


def _upwards(client: SyncPrefectClient, flow_run: FlowRun) -> Iterator[FlowRun]:
    """The flow run as the server has it now, and the flow runs that it is a subflow of."""
    run = client.read_flow_run(flow_run.id)
    yield run
    while run.parent_task_run_id:
        try:
            parent = client.read_task_run(run.parent_task_run_id).flow_run_id
        except ObjectNotFound:  # the server has not stored it yet
            return
        if parent is None:
            return
        run = client.read_flow_run(parent)
        yield run
