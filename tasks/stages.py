"""The log of a flow that runs the others: a line when each stage begins and ends, and the warnings of all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from pipeline_lib.core.progress import duration_text
from pipeline_lib.core.store import open_dataset
from tasks.logs import LOGGERS, working_on


@dataclass
class Stages:
    """The stages so far. `rows` are those of a table: stage, status, seconds, uri, digest."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    name: str = ""
    """Of the stage at work."""
    started: float = 0.0

    def begin(self, name: str) -> None:
        """Log that a stage begins."""
        self.name, self.started = name, time.time()
        working_on("")  # not on the dataset that the last stage opened here
        get_run_logger().info("%s: begins", name)

    def end(self, status: str, uris: Sequence[str], digests: Sequence[str]) -> None:
        """Log how the stage ended that began last.

        Args:
            status: "ran", or "skipped" where the answer was there.
            uris: its datasets, or the registered model.
        """
        seconds = time.time() - self.started
        row = {"stage": self.name, "status": status, "seconds": round(seconds, 2)}
        self.rows.append({**row, "uri": " ".join(uris), "digest": " ".join(digests)})
        what = "; ".join(_described(uri) for uri in uris)
        working_on("")
        get_run_logger().info("%s: %s, %s: %s", self.name, status, duration_text(seconds), what)


@contextmanager
def followed() -> Iterator[Stages]:
    """Stages whose warnings are in the log of the present flow run, too, each once.

    Those of workers in other processes (runner=ray) are in their own task runs' logs only.
    """
    stages = Stages()
    handler = _Warnings(stages, get_run_logger(), str(flow_run.id))
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield stages
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)


class _Warnings(logging.Handler):
    """Passes on what other runs than `own` warn of."""

    def __init__(self, stages: Stages, logger: Any, own: str) -> None:
        super().__init__(logging.WARNING)
        self.stages, self.logger, self.own = stages, logger, own
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if record.levelno > logging.WARNING:  # an error ends the present run as well, which says so itself
            return
        if str(vars(record).get("flow_run_id")) != self.own and said not in self.said:
            self.said.add(said)
            self.logger.warning("%s: %s", self.stages.name, said)


def _described(uri: str) -> str:
    """`stage/key` of a dataset with its counts; a registered model by its URI."""
    if uri.startswith("models:/"):
        return uri
    dataset = open_dataset(uri)
    counts = ", ".join(f"{name} {count:,}" for name, count in dataset.counts.items())
    return f"{dataset.path()} ({counts})" if counts else dataset.path()
