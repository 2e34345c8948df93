"""Expected errors are logged by their message; others keep their stack trace."""

from __future__ import annotations

import logging

import pytest

from pipeline_lib.errors import HubError
from tasks.logs import shorten_expected_errors


@pytest.mark.parametrize("name", ["prefect.flow_runs", "prefect.task_runs"])
def test_expected_errors_lose_their_trace_and_nothing_else(name: str) -> None:
    shorten_expected_errors()
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
