"""Whether files are those that a manifest names: by size and SHA-256, once per process.

A file on a disk that was hashed is remembered by `digest.current_sha256`, one on S3 here by its ETag and size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem

from pipeline_lib.core import digest
from pipeline_lib.core.store.manifest import Shard

_right: dict[str, tuple[Hashable, str]] = {}
"""By path on S3: what was said of a file that was found right, and its hash."""


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
    if isinstance(fs, LocalFileSystem):
        _compare(Path(path), shard)
        return Path(path).open("rb")
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


def forget() -> None:
    """Have every file looked at again, its bytes and not what is said of it."""
    digest.forget()
    _right.clear()


def _compare(file: Path, shard: Shard) -> None:
    """Raise ValueError for a file whose size or content is not the shard's."""
    if file.stat().st_size != shard.bytes or digest.current_sha256(file) != shard.sha256:
        raise ValueError(file)
