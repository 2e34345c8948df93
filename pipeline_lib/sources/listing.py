"""What lies below a folder, on local disk or S3: links are followed, to files and to folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipeline_lib.errors import SourceError


@dataclass(frozen=True)
class Listed:
    """A file: its path as the file system names it, its size, and what changes whenever its content does."""

    path: str
    size: int
    version: str


def listed(fs: AbstractFileSystem, root: str) -> list[Listed]:
    """Every file below `root`, by path; `root` itself where it is a file.

    Raises:
        SourceError: a link that leads nowhere: what it stands for would be left out without a word.
    """
    if isinstance(fs, LocalFileSystem):
        return sorted(_local(Path(root), ()), key=lambda file: file.path)
    fs.invalidate_cache()  # a long-lived process must see files added since it last listed
    found = {root: fs.info(root)} if fs.isfile(root) else fs.find(root, detail=True)
    return [Listed(path, info["size"], _version(info)) for path, info in sorted(found.items())]


def _local(path: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Listed]:
    """Files at or below a path; `above` are the folders on the way, by device and inode: a link back is no way on."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        if path.is_symlink() and not path.name.startswith((".", "_")):
            raise SourceError(
                f"{path} is a link to {os.readlink(path)}, which does not exist.",
                "Mount or restore what it leads to, or remove the link.",
            ) from error
        return  # removed meanwhile, or a program's mark
    if S_ISREG(found.st_mode):
        # Of what a link leads to: the link's own time stays when the file is written again.
        yield Listed(str(path), found.st_size, str(found.st_mtime))
    elif S_ISDIR(found.st_mode) and (found.st_dev, found.st_ino) not in above:
        for below in path.iterdir():
            yield from _local(below, (*above, (found.st_dev, found.st_ino)))


def _version(info: dict[str, Any]) -> str:
    """ETag where the store has one; else the modification time (hashing terabytes to start a run would cost hours)."""
    return str(info.get("ETag") or info.get("etag") or info.get("mtime") or "").strip('"')
