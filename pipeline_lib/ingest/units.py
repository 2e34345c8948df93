"""Units of work: runs of row groups of the source files, and how their columns are read."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.errors import SourceError
from pipeline_lib.ingest import rows
from pipeline_lib.sources import Source, SourceFile
from pipeline_lib.transport import transport_errors

UNIT_BYTES = 256 << 20
"""Uncompressed source bytes per unit, where row groups allow."""
BATCH_ROWS = 64
LISTING_THREADS = 8


@dataclass(frozen=True)
class Unit:
    """A run of row groups of one source file: `rows` rows starting at row `first_row` of the file."""

    index: int
    file: SourceFile
    row_groups: tuple[int, ...]
    first_row: int
    rows: int


def units_of(source: Source, limit: int | None) -> Iterator[Unit]:
    """Units in source order. Footers are read a few files ahead, and no further than the limit needs."""
    index, left = 0, limit
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        for at in range(0, len(source.files), LISTING_THREADS):
            for file, groups in zip(
                source.files[at : at + LISTING_THREADS],
                pool.map(_row_groups, source.files[at : at + LISTING_THREADS]),
                strict=True,
            ):
                for members, first_row, count in _runs(groups):
                    if left == 0:
                        return
                    taken = count if left is None else min(count, left)
                    left = None if left is None else left - taken
                    yield Unit(index, file, members, first_row, taken)
                    index += 1


def _row_groups(file: SourceFile) -> list[tuple[int, int]]:
    """(rows, uncompressed bytes) of each row group, after checking the columns."""
    with file.open() as handle, reading(file):
        parquet = pq.ParquetFile(handle)
        rows.check_schema(parquet.schema_arrow.names, file.uri)
        groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
        return [(group.num_rows, group.total_byte_size) for group in groups]


def _runs(groups: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """(row groups, first row, rows) of consecutive row groups that together stay under UNIT_BYTES."""
    members: list[int] = []
    first_row = count = size = 0
    for i, (group_rows, group_bytes) in enumerate(groups):
        if members and size + group_bytes > UNIT_BYTES:
            yield tuple(members), first_row, count
            members, first_row, count, size = [], first_row + count, 0, 0
        members.append(i)
        count += group_rows
        size += group_bytes
    if count:
        yield tuple(members), first_row, count


def plain_columns(unit: Unit) -> pa.Table:
    """The unit's columns that are not images, as they are."""
    with unit.file.open() as handle, reading(unit.file):
        parquet = pq.ParquetFile(handle)
        columns = [name for name in (*rows.REQUIRED, *rows.OPTIONAL) if name in parquet.schema_arrow.names]
        return parquet.read_row_groups(list(unit.row_groups), columns=columns).slice(0, unit.rows)


def image_batches(unit: Unit) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(offset in the unit, batch of columns jpg_0 and jpg_1) over the unit's rows, a few rows in memory at a time."""
    with unit.file.open() as handle, reading(unit.file):
        parquet = pq.ParquetFile(handle)
        for name in rows.IMAGE_COLUMNS:
            kind = parquet.schema_arrow.field(name).type
            if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
                raise SourceError(f"{unit.file.uri}: {name} is {kind}, not bytes.", "Store encoded image bytes there.")
        offset = 0
        columns = list(rows.IMAGE_COLUMNS)
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=list(unit.row_groups), columns=columns):
            batch = batch.select(columns).slice(0, unit.rows - offset)
            yield offset, batch
            offset += len(batch)
            if offset == unit.rows:
                return


@contextmanager
def reading(file: SourceFile) -> Iterator[None]:
    """Turn Arrow's and the transport's exceptions while reading one source file into SourceError."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, *transport_errors(file.uri)) as error:
        raise SourceError(
            f"Cannot read {file.uri}: {error}.", "Check that it is complete Parquet and can be reached; run again."
        ) from error
