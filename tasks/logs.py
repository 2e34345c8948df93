"""What Prefect logs: which dataset a run works on, and errors that name their remedy by their message alone."""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import ContextVar

from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from pipeline_lib.core.errors import PipelineError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
_working: ContextVar[tuple[str, str]] = ContextVar("_working", default=("", ""))
"""Id of a flow or task run, and the dataset it works on: a run that ends in the same thread leaves it behind."""


def working_on(dataset: str) -> None:
    """From now on what the present task run (else flow run) logs carries `dataset`, `<stage>/<key>`."""
    task, flow = TaskRunContext.get(), FlowRunContext.get()
    run = task.task_run.id if task else flow.flow_run.id if flow and flow.flow_run else ""
    _working.set((str(run), dataset))


def _complete(record: logging.LogRecord) -> bool:
    """Give a record its fields `stage` and `dataset`, its message the dataset, an expected error's no traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, PipelineError):
        # Prefect logs one per task, flow and parent: ten screens.
        record.msg, record.args = "%s: %s", (type(error).__name__, str(error))
        record.exc_info = record.exc_text = None
    fields = vars(record)
    run, dataset = _working.get()
    if run != (fields.get("task_run_id") or fields.get("flow_run_id")):
        dataset = ""
    record.stage, record.dataset = fields.get("task_name") or fields.get("flow_name"), dataset
    message = record.getMessage()
    if dataset and dataset not in message:
        record.msg, record.args = "%s: %s", (dataset, message)
    return True


class _Library(logging.Handler):
    """Passes on what pipeline_lib logs, which does not know Prefect."""

    def emit(self, record: logging.LogRecord) -> None:
        if dataset := getattr(record, "dataset", None):
            working_on(dataset)
        if record.levelno >= logging.INFO:
            with suppress(MissingContextError):  # threads that Prefect knows nothing of
                get_run_logger().log(record.levelno, "%s", record.getMessage())


def complete_logs() -> None:
    """Install the above on the loggers of flow runs, task runs and pipeline_lib."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_complete)
    library = logging.getLogger("pipeline_lib")
    library.setLevel(logging.DEBUG)
    if not any(isinstance(handler, _Library) for handler in library.handlers):
        library.addHandler(_Library())
