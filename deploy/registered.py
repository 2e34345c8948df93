"""The deployments of prefect.yaml as they are on the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse

FILE = Path(__file__).parent / "prefect.yaml"
DECLARED: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())["deployments"]
PAGE = 200


def registered(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    """Those that are registered; on a shared server others have theirs, too."""
    ours = {(one["name"], one["entrypoint"]) for one in DECLARED}
    offset = 0
    while page := client.read_deployments(limit=PAGE, offset=offset):
        yield from (one for one in page if (one.name, one.entrypoint) in ours)
        offset += len(page)
