"""Folders that others see whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline_lib.core.digest import file_sha256


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out` to write into, which takes its place at the end; after an error nothing is left of it.

    Where `out` is there with the same files, it stays as it is: somebody may be reading it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    scratch.mkdir()
    try:
        yield scratch
        try:
            os.rename(scratch, out)
        except OSError:
            if not out.is_dir():
                raise
            if _content(scratch) != _content(out):
                _replace(out, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _replace(out: Path, scratch: Path) -> None:
    old = out.with_name(f"{scratch.name}.old")
    os.rename(out, old)
    os.rename(scratch, out)
    shutil.rmtree(old, ignore_errors=True)


def _content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in folder.rglob("*") if path.is_file()}
