"""What flows published."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey


def artifact(key: str) -> Any:
    """The newest artifact of a key."""
    with get_client(sync_client=True) as client:
        found: list[Any] = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return max(found, key=lambda item: item.created)
