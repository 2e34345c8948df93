"""The manifest: what a dataset is, and the bytes of each of its files. Written last, it makes the dataset finished.

`manifest.json` is an object with

- manifest_version: of this format. None is version 0, which had no digest of itself.
- stage, key: of which stage, in which folder
- config, inputs: the question it answers; each input's `uri` (`stage/key`) and `digest`
- shards: path, rows, bytes, sha256 and counts of each file
- digest: of the shards' paths and contents, which is the dataset's identity
- counts, created: totals, and the Unix time of the commit
- code: the release and the modules that wrote it (code.py); none of it is in the digest (version 0: `code_version`)
- manifest_digest: of all of the above, and of any field that another release adds

A manifest that was cut, edited, or moved to where another dataset belongs is not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline_lib.core.digest import digest
from pipeline_lib.core.errors import ManifestError, excerpt
from pipeline_lib.core.json_files import parse_json

MANIFEST = "manifest.json"
VERSION = 1
KEY_LENGTH = 16
LIMIT = 256 << 20
"""Bytes of a manifest: a million files have as much."""
_FIELDS_0 = {"stage", "key", "config", "inputs", "shards", "counts", "digest", "code_version", "created"}
_INPUT = re.compile(rb'"uri":\s*"([^"/]+/[0-9a-f]{%d})"' % KEY_LENGTH)
AGAIN = "Delete the dataset's folder and run its stage again."


@dataclass(frozen=True)
class Shard:
    """One immutable file of a dataset. `rows` is 0 for files that are not tables."""

    path: str
    rows: int
    bytes: int
    sha256: str
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says; the fields are those of the module's docstring."""

    stage: str
    key: str
    digest: str
    config: Mapping[str, Any]
    inputs: Sequence[Mapping[str, str]]
    shards: Sequence[Shard]
    counts: Mapping[str, int]
    created: float
    """Not part of the digest: the same question gives the same digest at any time."""
    code: Mapping[str, str]


def content_digest(shards: Sequence[Shard]) -> str:
    """The identity of a dataset: the digest of its files' paths and contents, in the order of their paths."""
    return digest([[shard.path, shard.sha256] for shard in shards])


def manifest_text(manifest: Manifest) -> str:
    """A manifest as its file holds it."""
    content = {"manifest_version": VERSION, **asdict(manifest)}
    return json.dumps({**content, "manifest_digest": digest(content)}, indent=1, sort_keys=True)


def read_manifest(content: bytes, name: str) -> Manifest:
    """The manifest in the bytes of the file called `name`.

    Raises:
        ManifestError: it is empty, cut, edited, of a newer format, or something else.
    """
    raw = parse_json(content, name, ManifestError, AGAIN, LIMIT)
    version = raw.get("manifest_version", 0)
    if not isinstance(version, int) or (version == 0) != (raw.keys() == _FIELDS_0):
        raise ManifestError(f"{name} is no dataset's manifest, or was edited.", AGAIN)
    if version > VERSION:
        raise ManifestError(
            f"{name} has version {version}, and this release reads up to {VERSION}.",
            "Read it with the release that wrote it, or a later one.",
        )
    try:
        own = raw.pop("manifest_digest", None)
        edited = version > 0 and own != digest(raw)
        found = _manifest(raw, version)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ManifestError(f"{name} does not say what a manifest says: {excerpt(error)}.", AGAIN) from error
    if edited or found.digest != content_digest(found.shards):
        raise ManifestError(f"{name} was edited: a digest in it is not that of what it says.", AGAIN)
    return found


def named_inputs(content: bytes) -> set[str]:
    """The datasets (`stage/key`) that a manifest names as inputs, also one that cannot be read."""
    return {name.decode(errors="replace") for name in _INPUT.findall(content)}


def _manifest(raw: Mapping[str, Any], version: int) -> Manifest:
    """Fields of the right types; raises ValueError, TypeError or KeyError for others."""
    shards = [Shard(**shard) for shard in raw["shards"]]
    for shard in shards:
        parts = shard.path.split("/")
        if not all(parts) or {".", ".."} & set(parts) or min(shard.rows, shard.bytes) < 0:
            raise ValueError(f"the file {shard.path!r}")
        dict(shard.counts)
    return Manifest(
        stage=str(raw["stage"]),
        key=str(raw["key"]),
        digest=str(raw["digest"]),
        config=dict(raw["config"]),
        # In the order of manifests, which reports repeat.
        inputs=[{"digest": str(one["digest"]), "uri": str(one["uri"])} for one in raw["inputs"]],
        shards=shards,
        counts=dict(raw["counts"]),
        created=float(raw["created"]),
        code=dict(raw["code"]) if version else {"release": str(raw["code_version"])},
    )
