"""Digests of configurations and bytes: the identity of every dataset and model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


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
