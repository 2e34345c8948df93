"""A full disk: found in the errors of whoever wrote, and told with what is free, what was needed and what to do."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import DiskFullError

# A quota that is used up looks like a disk that is full.
_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
PAGE = 4096
"""Bytes that the smallest file takes."""


def disk_full(error: Exception, folder: Path, size: int = 0) -> DiskFullError | None:
    """What to raise where writing below `folder` failed for want of space; None where it failed for another reason.

    Args:
        size: bytes that were to be written, as far as known.
    """
    number = getattr(error, "errno", None)
    # safetensors' errors are texts.
    if number not in _NUMBERS and not any(f"(os error {known})" in str(error) for known in _NUMBERS):
        return None
    return no_space(folder, size)


def no_space(folder: Path, size: int = 0) -> DiskFullError:
    """What to raise where there is no space left below `folder` for `size` bytes (0: unknown)."""
    usage = _usage(folder)
    needed = f", {size_text(size)} were to be written" if size else ""
    return DiskFullError(
        f"No space left on the disk of {folder}: "
        f"{size_text(usage.free)} of {size_text(usage.total)} are free{needed}. What was finished is intact.",
        "Make space there (`python -m pipeline_lib.core.store_tools garbage <store>` lists datasets that may go), "
        "then run the same again: it continues where it stopped.",
    )


def is_full(folder: Path) -> bool:
    """Not even a page of memory fits on the disk of `folder`."""
    return _usage(folder).free < PAGE


def _usage(folder: Path) -> Any:
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    return shutil.disk_usage(there)


@contextmanager
def space(folder: Path, size: int = 0) -> Iterator[None]:
    """Turn the errors of a full disk into DiskFullError; others pass."""
    try:
        yield
    except Exception as error:
        if full := disk_full(error, folder, size):
            raise full from error
        raise


def size_text(size: float) -> str:
    """Bytes for people: 999 B, 1.2 kB, 335.0 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
