"""One training over several machines: this machine's place among them, from its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline_lib.core.errors import ConfigError

COUNT, RANK, MAIN = "PIPELINE_MACHINES", "PIPELINE_MACHINE_RANK", "PIPELINE_MAIN_ADDRESS"
REMEDY = (
    f"Set {COUNT} to the number of machines, {RANK} to 0 on the one whose worker runs the flow and to 1, 2, ... on "
    f"the others, and {MAIN} everywhere to <host>:<port> of the first: an address that all reach, a port that is "
    "free there."
)


@dataclass(frozen=True)
class Machines:
    """How many there are, which this one is, and where the first one (rank 0) waits for the others."""

    count: int = 1
    rank: int = 0
    host: str = ""
    port: int = 0


ALONE = Machines()


def machines(variables: Mapping[str, str] = os.environ) -> Machines:
    """This machine's place; ALONE where nothing is said. Raises ConfigError for settings that do not fit."""
    count, rank = (variables.get(name, "").strip() for name in (COUNT, RANK))
    if count in ("", "1"):
        return ALONE
    host, _, port = variables.get(MAIN, "").strip().rpartition(":")
    numbers = count.isdigit() and rank.isdigit() and port.isdigit()
    if not numbers or not host or not int(rank) < int(count) or not 0 < int(port) < 65536:
        said = ", ".join(f"{name}={variables.get(name, '')!r}" for name in (COUNT, RANK, MAIN))
        raise ConfigError(f"{said} name no machine among several.", REMEDY)
    return Machines(int(count), int(rank), host, int(port))
