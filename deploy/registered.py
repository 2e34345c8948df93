"""The deployments of prefect.yaml as they are on the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterId
from prefect.client.schemas.responses import DeploymentResponse

FILE = Path(__file__).parent / "prefect.yaml"
CONFIGURATION: dict[str, Any] = yaml.safe_load(FILE.read_text())
DECLARED: list[dict[str, Any]] = CONFIGURATION["deployments"]
PAGE = 200


def every(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    """All deployments of the server; on a shared one others have theirs, too."""
    offset = 0
    while page := client.read_deployments(limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def registered(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """Those of prefect.yaml that are registered, by `<flow>/<deployment>`."""
    ours = {(one["name"], one["entrypoint"]) for one in DECLARED}
    found = [one for one in every(client) if (one.name, one.entrypoint) in ours]
    by_id = FlowFilter(id=FlowFilterId(any_=sorted({one.flow_id for one in found})))
    flows = {flow.id: flow.name for flow in client.read_flows(flow_filter=by_id)} if found else {}
    return {f"{flows[one.flow_id]}/{one.name}": one for one in found}
