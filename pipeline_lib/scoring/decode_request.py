"""What a decode worker is asked: one line of JSON with the recipes, then the encoded image.

Recipes are dataclasses of any module, written as the name of their class and their fields: plain values and tuples of
them. The line is `{"bytes": 1234, "recipes": [["module:Class", {"size": 224}]]}`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from importlib import import_module
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline_lib.scoring.preprocess import Preprocess


def write_request(stream: BufferedIOBase, content: bytes, recipes: Sequence[Preprocess]) -> None:
    """Write an encoded image and its recipes, and flush."""
    described = [_described(recipe) for recipe in recipes]
    stream.write(json.dumps({"bytes": len(content), "recipes": described}).encode() + b"\n")
    stream.write(content)
    stream.flush()


def read_request(stream: BufferedIOBase) -> tuple[bytes, list[Preprocess]]:
    """Read what `write_request` wrote; raises EOFError when the stream ends."""
    if not (header := stream.readline()):
        raise EOFError("no request")
    request = json.loads(header)
    content = stream.read(request["bytes"])
    if len(content) < request["bytes"]:
        raise EOFError("the request ends early")
    return content, [_recipe(name, fields) for name, fields in request["recipes"]]


def _described(recipe: Any) -> list[Any]:
    return [f"{type(recipe).__module__}:{type(recipe).__qualname__}", asdict(recipe)]


def _recipe(name: str, fields: dict[str, Any]) -> Preprocess:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    recipe: Preprocess = _class(name)(**values)
    return recipe


@lru_cache
def _class(name: str) -> Any:
    module, _, path = name.partition(":")
    return getattr(import_module(module), path)
