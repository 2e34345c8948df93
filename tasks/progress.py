"""Progress of long work: a progress artifact in the UI, and log lines with rate and time left."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

ARTIFACT_SECONDS = 2.0
LOG_SECONDS = 10.0

logger = logging.getLogger(__name__)


def reporter(stage: str, unit: str) -> Callable[[int, int], None]:
    """A callback for (done, total) in `unit`; call it as often as you like, it throttles itself.

    Must be called inside a task run.
    """
    run_logger = get_run_logger()
    created = create_progress_artifact(0.0, key=f"{stage}-progress", description=f"{stage}: {unit} done")
    artifact = cast(UUID, created)  # a coroutine only where the caller is asynchronous
    started = time.monotonic()
    first = -1
    shown = logged = started

    def report(done: int, total: int) -> None:
        nonlocal first, shown, logged
        if first < 0:
            first = done  # what an earlier run finished must not count towards the rate
        now = time.monotonic()
        last = done >= total
        if now - shown >= ARTIFACT_SECONDS or last:
            shown = now
            update_progress_artifact(artifact, 100.0 * done / max(total, 1))
        if now - logged >= LOG_SECONDS or last:
            logged = now
            rate = (done - first) / max(now - started, 1e-9)
            left = f"{(total - done) / rate:.0f} s left" if rate > 0 and not last else ("done" if last else "")
            run_logger.info("%s: %d of %d %s, %.1f %s/s, %s", stage, done, total, unit, rate, unit, left)

    return report
