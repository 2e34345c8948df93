"""Intermediate tables of an unfinished ingest."""

from __future__ import annotations

import json
from dataclasses import asdict

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.core.store import DatasetWriter, Shard, access

SEEN = pa.schema(
    [
        pa.field("sha_0", pa.uint64()),  # first 8 bytes of the sha256 of what the row shows under the uid
        pa.field("sha_1", pa.uint64()),
        pa.field("reason_0", pa.string()),  # for first occurrences: why the image is rejected
        pa.field("reason_1", pa.string()),
        pa.field("detail_0", pa.string()),
        pa.field("detail_1", pa.string()),
        pa.field("unread", pa.string()),  # why the row's images could not be read from the file
    ]
)


OCCURRENCES = "work/occurrences.parquet"


def part(index: int) -> str:
    """File name of unit `index`."""
    return f"part-{index:05d}.parquet"


def parsed(index: int) -> str:
    """Path of the checked rows of unit `index`."""
    return f"work/parsed-{part(index)}"


def short(sha: str) -> int:
    """The first 8 bytes of a hex sha256 as an integer."""
    return int(sha[:16], 16)


def read_work(w: DatasetWriter, path: str, columns: list[str], unit: int | None = None) -> pl.DataFrame:
    """Columns of a table that has been published but not committed; `unit` selects the rows of one unit."""
    filters = None if unit is None else [("unit", "==", unit)]
    with access(w.uri), fsspec.open(f"{w.uri}/{path}", "rb").open() as file:
        frame = pl.from_arrow(pq.read_table(file, columns=columns, filters=filters))
    assert isinstance(frame, pl.DataFrame)
    return frame


def note_images(w: DatasetWriter, index: int, shard: Shard) -> None:
    """Write down a published image shard, so that neither a later run nor the commit reads it again to hash it."""
    w.write_bytes(_note(index), json.dumps(asdict(shard), sort_keys=True).encode())


def noted_images(w: DatasetWriter, index: int) -> Shard | None:
    """The image shard of a unit, if it has been published."""
    path = f"images/{part(index)}"
    try:
        with access(w.uri), fsspec.open(f"{w.uri}/{_note(index)}", "rb").open() as file:
            return Shard(**json.load(file))
    except (FileNotFoundError, ValueError, TypeError):  # no note yet, or half of one after a power cut
        shard = w.existing(path)
        if shard:
            note_images(w, index, shard)
        return shard


def _note(index: int) -> str:
    return f"work/images-{index:05d}.json"
