"""A small disk: a tmpfs of its own, which can be enlarged as if files had been removed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """A disk, mounted at `folder`."""

    folder: Path

    def resize(self, size: int) -> None:
        """Give it `size` bytes."""
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True, capture_output=True)

    def fill(self, left: int) -> None:
        """Take all but `left` bytes away with a file of others."""
        stat = os.statvfs(self.folder)
        (self.folder / "of-others").write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - left)))

    def make_space(self) -> None:
        (self.folder / "of-others").unlink()


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of `size` bytes at `folder`; skips the test where this user may not mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
