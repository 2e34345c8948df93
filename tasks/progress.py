"""Progress of long work: a progress artifact in the UI and log lines, both with rate and time left.

The arithmetic is in pipeline_lib/core/progress.py.
"""

from __future__ import annotations

import time
from typing import Protocol, cast
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from pipeline_lib.core.disk import size_text
from pipeline_lib.core.progress import Pace, duration_text, rate_text

ARTIFACT_SECONDS = 2.0
LOG_SECONDS = 10.0


class Report(Protocol):
    """Takes (done, total) in a stage's unit and, where it is known, the bytes done.

    `clock` is the time of the report in seconds, where the work has a clock of its own that stands while it is set up.
    """

    def __call__(self, done: int, total: int, size: int = 0, /, *, clock: float | None = None) -> None: ...


def reporter(stage: str, unit: str, there: int = 0) -> Report:
    """A callback that takes progress; call it as often as you like, it throttles itself.

    Must be called inside a task run or a flow run, when the work begins.

    Args:
        there: units that an earlier run has left: they are done, and say nothing about the rate.
    """
    run_logger = get_run_logger()
    created = create_progress_artifact(0.0, key=f"{stage}-progress", description=f"{stage}: {unit} done")
    artifact = cast(UUID, created)  # a coroutine only where the caller is asynchronous
    started = shown = logged = time.monotonic()
    pace = Pace(started, there)

    def report(done: int, total: int, size: int = 0, /, *, clock: float | None = None) -> None:
        nonlocal shown, logged
        now = time.monotonic()
        pace.report(now if clock is None else clock, done, size)
        speed = rate_text(pace.rate(), unit) + (f", {size_text(pace.bytes_rate())}/s" if size else "")
        seconds = pace.seconds_left(total)
        left = "" if seconds is None else f", {duration_text(seconds)} left"
        if now - shown >= ARTIFACT_SECONDS or done >= total:
            shown = now
            said = f"{stage}: {done:,} of {total:,} {unit}, {speed}{left}"
            try:
                update_progress_artifact(artifact, 100.0 * done / max(total, 1), description=said)
            except HTTPError as error:
                # The client has retried for minutes. The work goes on; the next report says where it is.
                run_logger.warning("Prefect did not take the progress: %s", error)
        if done >= total:
            run_logger.info("%s: all %d %s done in %.1f s", stage, total, unit, now - started)
        elif now - logged >= LOG_SECONDS:
            logged = now
            run_logger.info("%s: %d of %d %s, %s%s", stage, done, total, unit, speed, left)

    return report
