"""Whether files are those that a manifest names: by size and SHA-256, once per process.

A file that was found right is remembered by what its file system says of it: device, inode, size and times on a disk,
ETag and size on S3. As long as that stays, it is not read again to be hashed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Hashable
from pathlib import Path
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem

from pipeline_lib.digest import file_sha256
from pipeline_lib.store.manifest import Shard

SETTLED_S = 2.0
"""What was written so lately may change again at what its file system takes for the same time: not remembered."""

_right: dict[str, tuple[Hashable, str]] = {}
"""By path: what was said of a file that was found right, and its hash."""


def is_right(fs: Any, path: str, shard: Shard) -> bool:
    """Whether the file at `path` of a file system is the shard; False where there is none."""
    try:
        opened(fs, path, shard).close()
    except (FileNotFoundError, ValueError):
        return False
    return True


def opened(fs: Any, path: str, shard: Shard) -> IO[bytes]:
    """The file at `path` of a file system, verified, for reading.

    One on S3 is downloaded, unless this process has seen it whole: then only what is read of it is.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: its bytes are not the shard's.
    """
    if not isinstance(fs, LocalFileSystem):
        return _fetched(fs, path, shard)
    file = Path(path)
    said = file.stat()
    seen = ((said.st_dev, said.st_ino, said.st_size, said.st_mtime_ns, said.st_ctime_ns), shard.sha256)
    if _right.get(path) != seen:
        settled = max(said.st_mtime, said.st_ctime) < time.time() - SETTLED_S
        _compare(file, shard)
        if settled:
            _right[path] = seen
    return file.open("rb")


def forget(path: str) -> None:
    """Have the next look at a file be one at its bytes."""
    _right.pop(path, None)


def _fetched(fs: Any, path: str, shard: Shard) -> IO[bytes]:
    said = fs.info(path, refresh=True)
    seen = ((said["ETag"], said["size"]), shard.sha256)
    if _right.get(path) == seen:
        return fs.open(path, "rb")
    copy = tempfile.NamedTemporaryFile()  # noqa: SIM115  # whoever asked for the file closes it
    try:
        fs.get_file(path, copy.name)
        _compare(Path(copy.name), shard)
    except BaseException:
        copy.close()
        raise
    _right[path] = seen
    return copy


def _compare(file: Path, shard: Shard) -> None:
    """Raise ValueError for a file whose size or content is not the shard's."""
    if file.stat().st_size != shard.bytes or file_sha256(file) != shard.sha256:
        raise ValueError(file)
