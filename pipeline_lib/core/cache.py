"""Local copies of remote datasets: one user's own, bounded in size, the least recently used ones removed first."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from pipeline_lib.core.private import private_folder

SHARE = 4
"""Copies may take one part in so many of the disk of temporary files, but for those in use."""
UNUSED_S = 14 * 24 * 3600.0
"""A copy that nobody has used for so long is removed."""

_held: dict[Path, IO[str]] = {}
"""Locks of the copies that this process has asked for, until it ends: a model may read its files at any time."""


def copy_folder(digest: str) -> Path:
    """The folder for the copy of a dataset, which stays for as long as this process lives; others may be removed."""
    cache = private_folder("datasets")
    folder, lock = cache / digest, cache / f"{digest}.lock"
    if not _is(lock, _held.get(lock)):
        _clean(cache)
        while not _is(lock, _held.get(lock)):  # else it was removed while this waited for it
            _held[lock] = lock.open("a")
            fcntl.flock(_held[lock], fcntl.LOCK_SH)
    os.utime(lock)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is(path: Path, file: IO[str] | None) -> bool:
    """Whether `file` is what lies at the path now."""
    with suppress(FileNotFoundError):
        return file is not None and os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _clean(cache: Path) -> None:
    """Remove what nobody has used for long, and of the rest the least recently used where it is more than allowed."""
    allowed = shutil.disk_usage(cache).total // SHARE
    locks = sorted(cache.glob("*.lock"), key=_used)
    sizes = {lock: _size(lock.with_suffix("")) for lock in locks}
    total = sum(sizes.values())
    for lock in locks:
        if (total > allowed or _used(lock) < time.time() - UNUSED_S) and _removed(lock):
            total -= sizes[lock]


def _removed(lock: Path) -> bool:
    """Remove a copy and its lock file unless a living process has it."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink(missing_ok=True)
    return True


def _used(lock: Path) -> float:
    with suppress(FileNotFoundError):
        return lock.stat().st_mtime
    return 0.0


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total
