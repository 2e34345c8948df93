"""JSON that somebody else wrote, or a disk: read bounded, and wrong only by typed errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import PipelineError, excerpt

LIMIT = 16 << 20
"""Bytes of a configuration: the largest of known models have some thousand."""


def read_json(path: Path, error: type[PipelineError], remedy: str, limit: int = LIMIT) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        error: what to raise, with the file's name and `remedy`, for a file that is missing, unreadable, empty, cut,
            larger than `limit` bytes, or anything else than one JSON object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as problem:
        what = "is missing" if isinstance(problem, FileNotFoundError) else f"cannot be read: {problem.strerror}"
        raise error(f"{path} {what}.", remedy) from problem
    return parse_json(content, str(path), error, remedy, limit)


def parse_json(
    content: bytes, name: str, error: type[PipelineError], remedy: str, limit: int = LIMIT
) -> dict[str, Any]:
    """The object in the bytes of a JSON file called `name`; raises `error` as `read_json` does."""
    found = json_value(content, name, error, remedy, limit)
    if not isinstance(found, dict):
        raise error(f"{name} holds a JSON {_KINDS[type(found)]}, not an object.", remedy)
    return found


def json_value(content: bytes, name: str, error: type[PipelineError], remedy: str, limit: int = LIMIT) -> Any:
    """Whatever is in the bytes of a JSON file called `name`; raises `error` as `read_json` does."""
    if len(content) > limit:
        raise error(f"{name} has more than {limit >> 20} MiB: too much for this file.", remedy)
    if not content.strip():
        raise error(f"{name} is empty.", remedy)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise error(f"{name} is not JSON, or only a part of it: {excerpt(str(problem))}.", remedy) from problem


_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "truth value", type(None): "null"}
