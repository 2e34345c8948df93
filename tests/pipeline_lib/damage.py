"""What happens to finished files, on disks and by hand: seeded, told, and undone at the end."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline_lib.core.digest import file_sha256

Files = Mapping[Path, bytes]


@contextmanager
def damaged(root: Path, manifest: str, kind: str, rng: random.Random, other: Path) -> Iterator[str]:
    """The folder `root` with one thing wrong; yields what.

    Args:
        manifest: its file that tells what the others are.
        kind: one of KINDS.
        other: a folder of the same kind with other content.
    """
    before = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    data = {path: content for path, content in before.items() if path.name != manifest and content}
    try:
        if kind == "edited manifest":
            yield edit_manifest(root / manifest, rng, data, other / manifest)
        else:
            yield KINDS[kind](rng, data, other)
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def flip_bit(rng: random.Random, data: Files, other: Path) -> str:
    path = rng.choice(list(data))
    return f"bit {_flip(path, rng)} of {path.name}"


def truncate(rng: random.Random, data: Files, other: Path) -> str:
    path = rng.choice(list(data))
    length = rng.randrange(len(data[path]))
    path.write_bytes(data[path][:length])
    return f"{path.name} cut to {length} bytes"


def remove(rng: random.Random, data: Files, other: Path) -> str:
    path = rng.choice(list(data))
    path.unlink()
    return f"{path.name} deleted"


def swap(rng: random.Random, data: Files, other: Path) -> str:
    """Two files of the folder change places, or one is that of another folder."""
    path = rng.choice(list(data))
    there = {one: one.read_bytes() for one in sorted(other.rglob(path.name)) if one.is_file()}
    unlike = [one for one, content in {**data, **there}.items() if one != path and content != data[path]]
    second = rng.choice(unlike)
    content = second.read_bytes()
    if second in data:
        second.write_bytes(data[path])
    path.write_bytes(content)
    return f"{path.name} swapped with {second}"


KINDS: dict[str, Callable[[random.Random, Files, Path], str]] = {
    "bit flip": flip_bit,
    "truncation": truncate,
    "deletion": remove,
    "swap": swap,
    "edited manifest": lambda rng, data, other: "",  # needs to know which file it is
}


def edit_manifest(manifest: Path, rng: random.Random, data: Files, other: Path) -> str:
    """Change what a manifest says: by a bit, by halves, by hand, or together with a file that it names."""
    before = manifest.read_bytes()
    how = rng.choice(["bit", "cut", "empty", "another's", "value", "value", "field", "with a file", "with a file"])
    if how == "bit":
        while _said(manifest.read_bytes()) == _said(before):  # else it is another way to write the same
            manifest.write_bytes(before)
            _flip(manifest, rng)
    elif how == "cut":
        manifest.write_bytes(before[: rng.randrange(1, len(before) - 1)])
    elif how == "empty":
        manifest.write_bytes(b"")
    elif how == "another's":
        manifest.write_bytes(other.read_bytes())
    else:
        content = json.loads(before)
        if how == "with a file":
            path = rng.choice(list(data))
            old = file_sha256(path)
            _flip(path, rng)
            content = json.loads(json.dumps(content).replace(old, file_sha256(path)))
        elif how == "field":
            del content[rng.choice(sorted(content))]
        else:
            place, name = rng.choice(list(_leaves(content)))
            place[name] = _other(place[name])
        manifest.write_text(json.dumps(content, indent=1, sort_keys=True))
    return f"{manifest.name}: {how}"


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON value that holds a text, a number, a truth value or null."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for name, entry in entries:
        if isinstance(entry, dict | list):
            yield from _leaves(entry)
        else:
            yield value, name


def _other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value[:-1]}{'b' if value.endswith('a') else 'a'}"


def _said(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content


def _flip(path: Path, rng: random.Random) -> int:
    content = bytearray(path.read_bytes())
    at = rng.randrange(8 * len(content))
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)
    return at
