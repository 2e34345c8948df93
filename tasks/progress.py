"""Progress of long work: a progress artifact in the UI and log lines, both with rate and time left."""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol, cast
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from pipeline_lib.core.disk import size_text

ARTIFACT_SECONDS = 2.0
LOG_SECONDS = 10.0
WINDOW = 6
"""The rate is that since so many log lines ago: long work in few parts ends in bursts."""
PERIODS = (("s", 1), ("min", 60), ("h", 3600))


class Report(Protocol):
    """Takes (done, total) in a stage's unit and, where it is known, the bytes done."""

    def __call__(self, done: int, total: int, size: int = 0, /) -> None: ...


def rate_text(rate: float, unit: str) -> str:
    """`rate` units a second, by the minute or the hour where that is less than one: 12.5 images/s, 2.4 models/min."""
    per, seconds = next((p for p in PERIODS if rate * p[1] >= 1), PERIODS[-1]) if rate else PERIODS[0]
    return f"{rate * seconds:.1f} {unit}/{per}"


def reporter(stage: str, unit: str) -> Report:
    """A callback that takes progress; call it as often as you like, it throttles itself.

    Must be called inside a task run or a flow run.
    """
    run_logger = get_run_logger()
    created = create_progress_artifact(0.0, key=f"{stage}-progress", description=f"{stage}: {unit} done")
    artifact = cast(UUID, created)  # a coroutine only where the caller is asynchronous
    started = shown = logged = time.monotonic()
    # (time, done, bytes) at the last log lines: what an earlier run had finished does not count for long.
    marks = deque([(started, 0, 0)], maxlen=WINDOW)

    def report(done: int, total: int, size: int = 0, /) -> None:
        nonlocal shown, logged
        now = time.monotonic()
        since, before, bytes_before = marks[0]
        seconds = max(now - since, 1e-9)
        rate = (done - before) / seconds
        speed = rate_text(rate, unit) + (f", {size_text((size - bytes_before) / seconds)}/s" if size else "")
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
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
            marks.append((now, done, size))
            run_logger.info("%s: %d of %d %s, %s%s", stage, done, total, unit, speed, left)

    return report
