"""Looking after a store: what a dataset holds, what may go.

    python -m pipeline_lib.core.store_tools describe URI          # a summary of one dataset
    python -m pipeline_lib.core.store_tools verify URI            # re-hash its files
    python -m pipeline_lib.core.store_tools garbage STORE         # unfinished, unreferenced, unreadable datasets
    python -m pipeline_lib.core.store_tools garbage STORE --delete ingest/0123456789abcdef ...

The same on local disk and on S3.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from pipeline_lib.core.disk import size_text
from pipeline_lib.core.errors import PipelineError
from pipeline_lib.core.garbage import Garbage, delete, garbage
from pipeline_lib.core.store import Dataset, absolute, open_dataset, verify


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
    parser = argparse.ArgumentParser(prog="python -m pipeline_lib.core.store_tools", description="Look after a store.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (("describe", "summary of a dataset"), ("verify", "re-hash a dataset's files")):
        commands.add_parser(name, help=about).add_argument("uri", help="<store>/<stage>/<key>")
    listing = commands.add_parser("garbage", help="unfinished, unreferenced and unreadable datasets, with sizes")
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
    line = f"{item.path:<44} {item.why:<12} {item.files:>6} files {size_text(item.bytes):>10}  last written {when}"
    return f"{line}\n  {item.problem}" if item.problem else line


def _brief(value: Any) -> str:
    text = f"{len(value)} entries" if isinstance(value, list) and len(value) > 5 else str(value)
    return text if len(text) <= 90 else f"{text[:87]}..."


if __name__ == "__main__":
    sys.exit(main())
