"""Rows of a filter query of Prefect's, also where the server cannot write some of them.

With values among a run's parameters that it cannot write as JSON (a whole number beyond 64 bits, half of a surrogate
pair, deep nesting), the server answers 500 to every query that finds the run. Deployments refuse such parameters
(tasks/fields.py), but who asks the server not to enforce that, or edits a run, can store them still.
"""

from __future__ import annotations

import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

PAGE = 200
FLOW_RUNS = "flow_runs/filter"
IDS = "ui/flow_runs/history"
"""Finds what `FLOW_RUNS` finds, and answers with ids and states alone."""
ORDER = {path: {"sort": "ID_DESC"} for path in (FLOW_RUNS, "task_runs/filter")}
"""What lies at an offset must be the same for both."""

Ask = Callable[[str, object], Any]
"""A call of the API by path and payload; raises OSError."""


@dataclass
class Rows:
    """What a query found; `unreadable` holds ids of flow runs, and of other rows only that there is one."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def every(ask: Ask, path: str, query: Mapping[str, Any], most: int | None = None) -> Rows:
    """The rows of `<kind>/filter`, the first `most` of them or all.

    Raises:
        OSError: the server does not answer, or fails for another reason than a row.
    """
    found, offset, query = Rows(), 0, {**ORDER.get(path, {}), **query}
    while most is None or offset < most:
        size = min(PAGE, most - offset) if most is not None else PAGE
        before = len(found.rows) + len(found.unreadable)
        _read(ask, path, query, offset, size, found)
        offset += size
        if len(found.rows) + len(found.unreadable) - before < size:
            break
    return found


def _read(ask: Ask, path: str, query: Mapping[str, Any], offset: int, size: int, found: Rows) -> None:
    """Add the rows from `offset`; where the server fails, by halves, down to the row that it cannot write."""
    try:
        found.rows += ask(path, {**query, "limit": size, "offset": offset})
    except urllib.error.HTTPError as error:
        if error.code != 500:
            raise
        if size == 1:
            found.unreadable += _names(ask, path, query, offset)
            return
        half = size // 2
        _read(ask, path, query, offset, half, found)
        _read(ask, path, query, offset + half, size - half, found)


def _names(ask: Ask, path: str, query: Mapping[str, Any], offset: int) -> list[str]:
    """The id of the flow run at `offset`; raises where it is not the row that the server fails on."""
    if path != FLOW_RUNS:
        return [f"number {offset} of {path}"]
    return [str(run["id"]) for run in ask(IDS, {**query, "limit": 1, "offset": offset})]
