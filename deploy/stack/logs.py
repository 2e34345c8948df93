"""Logs that stay bounded while their writers live."""

import contextlib
import logging
import os
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)

LOG_BYTES = 20_000_000
ROTATE_EVERY_S = 10.0


def rotate(folder: Path, limit: int = LOG_BYTES) -> None:
    """Move the content of every log above `limit` bytes to `<name>.log.1`, in place of what was there.

    The writers have the files open for appending, and go on at the new end: what they write while a log is copied is
    lost, at most.
    """
    for path in folder.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size <= limit:
                continue
            previous = path.with_suffix(".log.1")
            try:
                previous.unlink(missing_ok=True)  # first: the disk may be full
                shutil.copy(path, previous)
                os.truncate(path, 0)
            except OSError as error:
                logger.warning("cannot rotate %s: %s", path, error)
