"""Runs of schedules whose time has come and that wait for a worker: registering their deployment deletes them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Scheduled

MOST = 200
"""Runs that are kept; one page of the API."""


def due_runs(client: SyncPrefectClient, deployments: Iterable[UUID]) -> list[FlowRun]:
    """Runs that schedules have made of these deployments, and that should have started by now."""
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=list(deployments)),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"before_": datetime.now(UTC)}),
    )
    return [run for run in client.read_flow_runs(flow_run_filter=wanted, limit=MOST) if run.auto_scheduled]


def make_again(client: SyncPrefectClient, runs: Iterable[FlowRun]) -> None:
    """Make those again that are gone, for the same time and with the same parameters, and say so."""
    for run in runs:
        try:
            client.read_flow_run(run.id)
        except ObjectNotFound:
            assert run.deployment_id
            state: State[Any] = Scheduled(scheduled_time=run.expected_start_time)
            try:
                made = client.create_flow_run_from_deployment(
                    run.deployment_id, parameters=run.parameters, state=state, tags=run.tags
                )
                print(f"run {run.name}, due at {run.expected_start_time:%F %T}: waits on as {made.name}")
            except PrefectHTTPStatusError as problem:
                print(f"run {run.name}, due at {run.expected_start_time:%F %T}: dropped, {problem}")
