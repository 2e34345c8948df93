"""Progress of long work: a progress artifact in the UI, and log lines with rate and time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

ARTIFACT_SECONDS = 2.0
LOG_SECONDS = 10.0


def reporter(stage: str, unit: str) -> Callable[[int, int], None]:
    """A callback for (done, total) in `unit`; call it as often as you like, it throttles itself.

    Must be called inside a task run.
    """
    run_logger = get_run_logger()
    created = create_progress_artifact(0.0, key=f"{stage}-progress", description=f"{stage}: {unit} done")
    artifact = cast(UUID, created)  # a coroutine only where the caller is asynchronous
    started = shown = logged = time.monotonic()
    logged_at = 0

    def report(done: int, total: int) -> None:
        nonlocal shown, logged, logged_at
        now = time.monotonic()
        if now - shown >= ARTIFACT_SECONDS or done >= total:
            shown = now
            update_progress_artifact(artifact, 100.0 * done / max(total, 1))
        if done >= total:
            run_logger.info("%s: all %d %s done in %.1f s", stage, total, unit, now - started)
        elif now - logged >= LOG_SECONDS:
            # The rate of the last interval: what an earlier run had finished does not count for long.
            rate = (done - logged_at) / (now - logged)
            logged, logged_at = now, done
            left = f", {(total - done) / rate:.0f} s left" if rate > 0 else ""
            run_logger.info("%s: %d of %d %s, %.1f %s/s%s", stage, done, total, unit, rate, unit, left)

    return report
