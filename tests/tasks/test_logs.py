"""Expected errors are logged by their message, others with their stack trace; every line says what it is about."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.context import TaskRunContext

from pipeline_lib.core import store
from pipeline_lib.core.errors import HubError
from tasks.logs import complete_logs


@contextmanager
def logged(logger: logging.Logger) -> Iterator[list[logging.LogRecord]]:
    """The records that reach a logger's handlers."""
    handler, records = logging.Handler(), list[logging.LogRecord]()
    handler.emit = records.append  # type: ignore[method-assign]  # a handler that keeps what it gets
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("name", ["prefect.flow_runs", "prefect.task_runs"])
def test_expected_errors_lose_their_trace_and_nothing_else(name: str) -> None:
    complete_logs()
    logger = logging.getLogger(name)
    with logged(logger) as records:
        for error in (HubError("no hub", "plug it in"), KeyError("a bug")):
            try:
                raise error
            except Exception as raised:
                logger.error("Encountered exception during execution: %r", raised, exc_info=True)
    expected, bug = records
    assert expected.getMessage() == "HubError: no hub\n-> plug it in"
    assert expected.exc_info is None
    assert bug.exc_info is not None and "KeyError" in bug.getMessage()


def test_a_task_run_s_lines_carry_the_dataset_that_the_library_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete_logs()
    monkeypatch.setattr(TaskRunContext, "get", lambda: SimpleNamespace(task_run=SimpleNamespace(id="one")))
    path = store.writer(str(tmp_path), "labels", 1, {}).path()
    logger = logging.getLogger("prefect.task_runs")
    with logged(logger) as records:
        for run in ("one", "another"):
            logger.error("kept %d", 100, extra={"task_run_id": run, "task_name": "label"})
        logger.error("wrote %s", path, extra={"task_run_id": "one", "task_name": "label"})
    assert [(r.getMessage(), vars(r)["stage"], vars(r)["dataset"]) for r in records] == [
        (f"{path}: kept 100", "label", path),
        ("kept 100", "label", ""),
        (f"wrote {path}", "label", path),
    ]
