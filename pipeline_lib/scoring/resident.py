"""Scorers that stay in memory between the shards that one process scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline_lib.core.digest import canonical_json
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.hub import HUB
from pipeline_lib.core.resident import resident
from pipeline_lib.scoring import engine
from pipeline_lib.scoring.base import Scorer


def resident_scorers(wanted: Mapping[str, Mapping[str, Any]], mirror: str = HUB, device: str = "cpu") -> list[Scorer]:
    """Scorers on `device`, loaded on the first call; other threads wait for it.

    Args:
        wanted: scorer name -> its identity (`engine.identities`) where the work was planned.

    Raises:
        ConfigError: this machine finds other weights than the one that planned the work, or another precision, and
            its scores would not belong into the same tables.
        HubError, CheckpointError: as `engine.load_scorers`.
    """

    def check() -> None:
        found = engine.identities(wanted, mirror, device)
        if other := [name for name in wanted if found[name] != wanted[name]]:
            raise ConfigError(
                f"Weights or precision on this machine ({device}) are not those of the run: {', '.join(other)}.",
                "Give every machine the same weights and the same kind of device.",
            )

    def load() -> list[Scorer]:
        check()
        loaded = engine.load_scorers(list(wanted), mirror, device)
        check()  # files may have been changed until they were read
        return loaded

    return resident(device, canonical_json([list(wanted.items()), mirror]), load)
