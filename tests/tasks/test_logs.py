"""Expected errors are logged by their message, others with their stack trace; every line says what it is about."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.context import TaskRunContext

from pipeline_lib import store
from pipeline_lib.errors import HubError
from tasks.logs import complete_logs


@pytest.mark.parametrize("name", ["prefect.flow_runs", "prefect.task_runs"])
def test_expected_errors_lose_their_trace_and_nothing_else(name: str) -> None:
    complete_logs()
    logger, records = logging.getLogger(name), list[logging.LogRecord]()
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]  # a handler that keeps what it gets
    logger.addHandler(handler)
    try:
        for error in (HubError("no hub", "plug it in"), KeyError("a bug")):
            try:
                raise error
            except Exception as raised:
                logger.error("Encountered exception during execution: %r", raised, exc_info=True)
    finally:
        logger.removeHandler(handler)
    expected, bug = records
    assert expected.getMessage() == "HubError: no hub\n-> plug it in"
    assert expected.exc_info is None
    assert bug.exc_info is not None and "KeyError" in bug.getMessage()


def test_a_task_run_s_lines_carry_the_dataset_that_the_library_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    complete_logs()
    logger = logging.getLogger("prefect.task_runs")
    caplog.set_level(logging.INFO, "prefect.task_runs")
    monkeypatch.setattr(TaskRunContext, "get", lambda: SimpleNamespace(task_run=SimpleNamespace(id="one")))
    path = store.writer(str(tmp_path), "labels", 1, {}).path()
    logger.addHandler(caplog.handler)
    try:
        for run in ("one", "another"):
            logger.info("kept %d", 100, extra={"task_run_id": run, "task_name": "label"})
        logger.info("wrote %s", path, extra={"task_run_id": "one", "task_name": "label"})
    finally:
        logger.removeHandler(caplog.handler)
    assert [(record.getMessage(), *fields(record)) for record in caplog.records if record.name == logger.name] == [
        (f"{path}: kept 100", "label", path),
        ("kept 100", "label", ""),
        (f"wrote {path}", "label", path),
    ]


def fields(record: logging.LogRecord) -> tuple[str, str]:
    return vars(record)["stage"], vars(record)["dataset"]
