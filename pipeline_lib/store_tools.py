"""Looking after a store: what a dataset holds, what may go.

    python -m pipeline_lib.store_tools describe URI          # a summary of one dataset
    python -m pipeline_lib.store_tools verify URI            # re-hash its files
    python -m pipeline_lib.store_tools garbage STORE         # unfinished and unreferenced datasets, with sizes
    python -m pipeline_lib.store_tools garbage STORE --delete ingest/0123456789abcdef ...

The same on local disk and on S3.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fsspec.core import url_to_fs

from pipeline_lib import pins
from pipeline_lib.disk import size_text
from pipeline_lib.errors import PipelineError, StoreError
from pipeline_lib.store import KEY_LENGTH, MANIFEST, Dataset, absolute, open_dataset, verify
from pipeline_lib.transport import transport_errors

_DATASET = re.compile(rf"^(?P<path>.+?/[0-9a-f]{{{KEY_LENGTH}}})/(?P<file>.+)$")


@dataclass(frozen=True)
class Garbage:
    """A dataset that nothing in its store needs."""

    path: str
    """`stage/key`, relative to the store."""
    why: Literal["unfinished", "unreferenced"]
    """Without a manifest (a run died, or is writing now), or finished and no other dataset's input."""
    files: int
    bytes: int
    written: float
    """Unix time of the newest file."""


def garbage(store: str, keep: Iterable[str] = ()) -> list[Garbage]:
    """Unfinished and unreferenced datasets of a store, largest first.

    The last stage's datasets (models, evaluations) are unreferenced by nature. Those of registered models are pinned
    (pins.py); `keep` names others to hold on to, by digest or as `stage/key`. What they were made from is referenced
    through them.

    Raises:
        StoreError: the store cannot be listed, or a manifest not be read.
    """
    root_url, found = absolute(store), _files(store)
    finished = {path: open_dataset(f"{root_url}/{path}") for path, files in found.items() if MANIFEST in files}
    referenced = {source["uri"] for dataset in finished.values() for source in dataset.inputs}
    kept = set(keep)
    listed = []
    for path, files in found.items():
        dataset = finished.get(path)
        if dataset and (dataset.stage == pins.STAGE or path in referenced or kept & {path, dataset.digest}):
            continue
        size = sum(info["size"] or 0 for info in files.values())
        newest = max(_written(info) for info in files.values())
        listed.append(Garbage(path, "unreferenced" if dataset else "unfinished", len(files), size, newest))
    return sorted(listed, key=lambda item: (-item.bytes, item.path))


def datasets(store: str, stage: str) -> list[Dataset]:
    """The finished datasets of one stage; raises StoreError when the store cannot be read."""
    root_url = absolute(store)
    return [open_dataset(f"{root_url}/{path}") for path, files in _files(store, stage).items() if MANIFEST in files]


def _files(store: str, stage: str = "") -> dict[str, dict[str, dict[str, Any]]]:
    """Files with what the file system says of them, by dataset (`stage/key`) and path within it."""
    root_url = absolute(store)
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    try:
        fs, root = url_to_fs(root_url)
        fs.invalidate_cache()
        for name, info in fs.find(f"{root}/{stage}".rstrip("/"), detail=True).items():
            if match := _DATASET.match(name.removeprefix(f"{root}/")):
                found[match["path"]][match["file"]] = info
    except transport_errors(root_url) as error:
        raise StoreError(
            f"Cannot list {root_url}: {error}.", "Check permissions, credentials and endpoint."
        ) from error
    return found


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


def describe(dataset: Dataset) -> str:
    """A human summary: where it is, what it answers, what it holds, what was dropped."""
    tables: dict[str, Counter[str]] = defaultdict(Counter)
    for shard in dataset.shards:
        folder, _, name = shard.path.rpartition("/")
        kind = (folder or "(top)") if name.endswith(".parquet") else shard.path
        tables[kind].update(shards=1, rows=shard.rows, bytes=shard.bytes)
    committed = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(dataset.created))
    lines = [
        f"{dataset.path()}  ({size_text(sum(shard.bytes for shard in dataset.shards))}, committed {committed})",
        f"  at      {dataset.uri}",
        f"  digest  {dataset.digest}",
    ]
    lines += [f"  from    {source['uri']}  {source['digest'][:16]}" for source in dataset.inputs]
    lines += ["", "  holds"]
    for kind, total in sorted(tables.items()):
        rows = f"{total['rows']:>12,} rows in {total['shards']} shards" if kind.partition(".")[2] == "" else " " * 12
        lines.append(f"    {kind:<28} {size_text(total['bytes']):>10} {rows}".rstrip())
    lines += ["", "  counts", *(f"    {name:<28} {count:>10,}" for name, count in dataset.counts.items())]
    lines += ["", "  settings", *(f"    {name:<16} {_brief(value)}" for name, value in dataset.config.items())]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipeline_lib.store_tools", description="Look after a store.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (("describe", "summary of a dataset"), ("verify", "re-hash a dataset's files")):
        commands.add_parser(name, help=about).add_argument("uri", help="<store>/<stage>/<key>")
    listing = commands.add_parser("garbage", help="unfinished and unreferenced datasets, with sizes")
    listing.add_argument("store", help="folder or fsspec URL")
    listing.add_argument("--keep", nargs="+", default=[], metavar="DIGEST", help="digests or stage/key to hold on to")
    listing.add_argument("--delete", nargs="+", default=[], metavar="PATH", help="delete these of the list")
    given = parser.parse_args(arguments)
    try:
        if given.command == "garbage":
            items = delete(given.store, given.delete, given.keep) if given.delete else garbage(given.store, given.keep)
            lines = [_line(item) for item in items]
            total = size_text(sum(item.bytes for item in items))
            text = "\n".join([*lines, f"{len(items)} datasets, {total} {'deleted' if given.delete else 'in all'}"])
        else:
            dataset = open_dataset(absolute(given.uri))
            text = describe(dataset)
            if given.command == "verify":
                verify(dataset)
                text = f"{dataset.path()}: all {len(dataset.shards)} files are the manifest's"
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0


def _line(item: Garbage) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(item.written))
    return f"{item.path:<44} {item.why:<12} {item.files:>6} files {size_text(item.bytes):>10}  last written {when}"


def _written(info: dict[str, Any]) -> float:
    """Unix time: local file systems say `mtime`, S3 `LastModified`."""
    if stamp := info.get("LastModified"):
        return float(stamp.timestamp())
    return float(info.get("mtime") or 0.0)


def _brief(value: Any) -> str:
    text = f"{len(value)} entries" if isinstance(value, list) and len(value) > 5 else str(value)
    return text if len(text) <= 90 else f"{text[:87]}..."


if __name__ == "__main__":
    sys.exit(main())
