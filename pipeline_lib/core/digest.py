"""Digests of configurations and bytes: the identity of every dataset and model."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
SETTLED_S = 2.0
"""File systems tell times apart by up to this much: what changed more recently can change again and look the same."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal configurations give equal text; dataclasses are objects."""

    def plain(item: Any) -> Any:
        if is_dataclass(item) and not isinstance(item, type):
            return asdict(item)
        raise TypeError(f"{type(item).__name__} cannot be part of a configuration: {item!r}")

    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=plain, allow_nan=False)


def digest(value: Any, length: int = 64) -> str:
    """Hex sha256 of `canonical_json(value)`, cut to `length` characters."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def text_id(*parts: str) -> str:
    """A 16-character id of one or more strings; used for prompt, pair and image ids."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Hex sha256 of a local file, read in chunks."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            total.update(chunk)
    return total.hexdigest()


def current_sha256(path: Path) -> str:
    """`file_sha256` of what lies at the path now, links followed; hashed once per process while the file is the same.

    Checkpoints have gigabytes. That a file is the same is told by device, inode, size and its times of change, of
    which nobody can set the last one back.
    """
    state = path.stat()
    if time.time() - state.st_ctime < SETTLED_S:
        return file_sha256(path)
    return _sha256(path, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


def forget() -> None:
    """Have `current_sha256` hash every file again."""
    _sha256.cache_clear()


@lru_cache(maxsize=4096)
def _sha256(path: Path, state: tuple[int, ...]) -> str:
    del state  # only tells what lay at the path at other times apart
    return file_sha256(path)
