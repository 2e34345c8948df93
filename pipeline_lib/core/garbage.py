"""What may go from a store: datasets that nothing in it needs, that were never finished, or that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fsspec.core import url_to_fs

from pipeline_lib.core import pins
from pipeline_lib.core.errors import StoreError
from pipeline_lib.core.store import MANIFEST, absolute
from pipeline_lib.core.store.listing import folders
from pipeline_lib.core.transport import transport_errors

Why = Literal["unfinished", "unreferenced", "unreadable"]


@dataclass(frozen=True)
class Garbage:
    """A dataset that nothing in its store needs."""

    path: str
    """`stage/key`, relative to the store."""
    why: Why
    """Without a manifest (a run died, or is writing now), finished and no other dataset's input, or with a manifest
    that cannot be read."""
    files: int
    bytes: int
    written: float
    """Unix time of the newest file."""
    problem: str = ""
    """Why the manifest cannot be read."""


def garbage(store: str, keep: Iterable[str] = ()) -> list[Garbage]:
    """Unfinished, unreferenced and unreadable datasets of a store, largest first.

    The last stage's datasets (models, evaluations) are unreferenced by nature. Those of registered models are pinned
    (pins.py); `keep` names others to hold on to, by digest or as `stage/key`. What they were made from is referenced
    through them, and what an unreadable manifest names as its inputs is, too: it may be mended.

    Raises:
        StoreError: the store cannot be listed or read.
    """
    found = folders(store)
    referenced = {path for folder in found for path in folder.inputs}
    kept = set(keep)
    listed = []
    for folder in found:
        dataset = folder.dataset
        if dataset and (
            dataset.stage == pins.STAGE or folder.path in referenced or kept & {folder.path, dataset.digest}
        ):
            continue
        size = sum(info["size"] or 0 for info in folder.files.values())
        newest = max(_written(info) for info in folder.files.values())
        why: Why = "unreadable" if folder.problem else "unreferenced" if dataset else "unfinished"
        listed.append(Garbage(folder.path, why, len(folder.files), size, newest, folder.problem))
    return sorted(listed, key=lambda item: (-item.bytes, item.path))


def delete(store: str, paths: Sequence[str], keep: Iterable[str] = ()) -> list[Garbage]:
    """Delete the named datasets, each of which must be garbage now; returns what was deleted.

    Raises:
        StoreError: a path is not garbage (then nothing is deleted), or cannot be removed.
    """
    listed = {item.path: item for item in garbage(store, keep)}
    if wrong := [path for path in paths if path not in listed]:
        raise StoreError(
            f"{', '.join(wrong)}: not in {store}, or needed by another dataset there.",
            "Delete only what `garbage` lists.",
        )
    root_url = absolute(store)
    try:
        fs, root = url_to_fs(root_url)
        for path in paths:
            # The manifest goes first: a deletion that is interrupted leaves an unfinished dataset, not a broken one.
            if fs.exists(f"{root}/{path}/{MANIFEST}"):
                fs.rm_file(f"{root}/{path}/{MANIFEST}")
            fs.rm(f"{root}/{path}", recursive=True)
    except transport_errors(root_url) as error:
        raise StoreError(f"Cannot delete in {root_url}: {error}.", "Check permissions and credentials.") from error
    return [listed[path] for path in paths]


def _written(info: Mapping[str, Any]) -> float:
    """Unix time: local file systems say `mtime`, S3 `LastModified`."""
    if stamp := info.get("LastModified"):
        return float(stamp.timestamp())
    return float(info.get("mtime") or 0.0)
