"""Errors that name their remedy need no stack trace: Prefect logs one per task, flow and parent, ten screens."""

from __future__ import annotations

import logging

from pipeline_lib.errors import PipelineError


def _shorten(record: logging.LogRecord) -> bool:
    """Replace the traceback of an expected error by its message; records are changed, never dropped."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, PipelineError):
        record.msg, record.args = "%s: %s", (type(error).__name__, str(error))
        record.exc_info = record.exc_text = None
    return True


def shorten_expected_errors() -> None:
    """Install the filter on the loggers of flow and task runs."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_shorten)
