"""Rows of a query whose answer the server cannot write, on an imitated server; a real one is in tests/integration."""

from typing import Any
from urllib.error import HTTPError

import pytest

from deploy.stack.rows import FLOW_RUNS, IDS, every


def server(runs: int, bad: set[int], path: str = FLOW_RUNS) -> Any:
    """Answers filter queries over runs 0, 1, ...; fails on pages with one of the bad."""

    def ask(asked: str, query: Any) -> Any:
        page = range(query["offset"], min(query["offset"] + query["limit"], runs))
        assert asked in (path, IDS) and (path != FLOW_RUNS or query["sort"])
        if asked == path and bad & set(page):
            raise HTTPError(asked, 500, "Internal Server Error", None, None)  # type: ignore[arg-type]
        return [{"id": str(run)} for run in page]

    return ask


@pytest.mark.parametrize(("runs", "bad"), [(0, set()), (3, {1}), (450, {0, 199, 200, 449}), (200, {7})])
def test_all_others_are_read_and_those_are_named(runs: int, bad: set[int]) -> None:
    found = every(server(runs, bad), FLOW_RUNS, {})
    assert [int(row["id"]) for row in found.rows] == [run for run in range(runs) if run not in bad]
    assert [int(run) for run in found.unreadable] == sorted(bad)


def test_of_other_rows_it_says_that_there_is_one_and_reads_no_more_than_asked_for() -> None:
    found = every(server(3, {1}, "task_runs/filter"), "task_runs/filter", {})
    assert len(found.rows) == 2 and found.unreadable == ["number 1 of task_runs/filter"]
    assert len(every(server(450, set()), FLOW_RUNS, {}, most=250).rows) == 250


def test_another_failure_is_raised() -> None:
    def ask(path: str, query: Any) -> Any:
        raise HTTPError(path, 500, "database", None, None)  # type: ignore[arg-type]

    with pytest.raises(HTTPError):
        every(ask, FLOW_RUNS, {})
