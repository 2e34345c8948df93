"""Units of work: runs of row groups of the source files, and how their columns are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.core.errors import SourceError, UnreadableFileError
from pipeline_lib.data.ingest import rows
from pipeline_lib.data.sources import Source, SourceFile
from pipeline_lib.data.sources.columns import IMAGES, REQUIRED, SPLIT

UNIT_BYTES = 256 << 20
"""Uncompressed source bytes per unit, where row groups allow."""
BATCH_ROWS = 64
LISTING_THREADS = 8

_ADDRESS = re.compile(r"0x[0-9a-f]+")  # of an object, in messages; the quarantine must be the same in every run


@dataclass(frozen=True)
class Unit:
    """A run of row groups of one source file: `rows` rows starting at row `first_row` of the file.

    A file whose footer cannot be read is a unit without row groups.
    """

    index: int
    file: SourceFile
    row_groups: tuple[int, ...]
    first_row: int
    rows: int
    bytes: int
    """Uncompressed, by the file's footer."""


@dataclass(frozen=True)
class _Group:
    rows: int
    bytes: int


def units_of(source: Source, limit: int | None) -> Iterator[Unit]:
    """Units in source order. Footers are read a few files ahead, and no further than the limit needs."""
    index, left = 0, limit
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        for at in range(0, len(source.files), LISTING_THREADS):
            files = source.files[at : at + LISTING_THREADS]
            for file, groups in zip(files, pool.map(_row_groups, files), strict=True):
                for members, first_row, count, size in _runs(groups):
                    if left == 0:
                        return
                    taken = count if left is None else min(count, left)
                    left = None if left is None else left - taken
                    yield Unit(index, file, members, first_row, taken, size)
                    index += 1


def _row_groups(file: SourceFile) -> Sequence[_Group] | None:
    """The file's row groups, after checking its columns; None where the footer cannot be used."""
    try:
        with open_parquet(file) as parquet:
            groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
            found = [_Group(group.num_rows, group.total_byte_size) for group in groups]
    except UnreadableFileError:
        return None
    return found


def _runs(groups: Sequence[_Group] | None) -> Iterator[tuple[tuple[int, ...], int, int, int]]:
    """(row groups, first row, rows, bytes) of consecutive row groups that together stay under UNIT_BYTES."""
    if groups is None:
        yield (), 0, 0, 0
        return
    members: list[int] = []
    first_row = count = size = 0
    for i, group in enumerate(groups):
        if members and size + group.bytes > UNIT_BYTES:
            yield tuple(members), first_row, count, size
            members, first_row, count, size = [], first_row + count, 0, 0
        members.append(i)
        count += group.rows
        size += group.bytes
    if count:
        yield tuple(members), first_row, count, size


def plain_columns(unit: Unit) -> pa.Table:
    """The unit's columns that are not images, as they are."""
    with open_parquet(unit.file) as parquet:
        wanted = (*REQUIRED, *rows.OPTIONAL, SPLIT)
        table = _read(parquet, unit.row_groups, wanted, unit.file).slice(0, unit.rows)
        if len(table) != unit.rows:
            raise pa.ArrowInvalid(f"{len(table)} rows where the footer says {unit.rows}")
        return table


def captions(file: SourceFile) -> Iterator[pa.Table]:
    """The prompts of a file, and what its rows say of their split, row group by row group."""
    with open_parquet(file) as parquet:
        for i in range(parquet.metadata.num_row_groups):
            yield _read(parquet, [i], ("caption", SPLIT), file)


def _read(parquet: pq.ParquetFile, groups: Sequence[int], wanted: Sequence[str], file: SourceFile) -> pa.Table:
    """Those of the wanted columns that the file or its folders have. A split that folders say chose the file."""
    names = [name for name in wanted if name in parquet.schema_arrow.names]
    other = [name for name in parquet.schema_arrow.names if name.lower() == SPLIT and SPLIT not in names]
    table = parquet.read_row_groups(list(groups), columns=[*names, *other[:1]])
    table = table.rename_columns([SPLIT if name in other else name for name in table.column_names])
    rows_read = sum(parquet.metadata.row_group(i).num_rows for i in groups)
    for name, value in file.partitions.items():
        if name in wanted and name != SPLIT and name not in table.column_names:
            column = pa.array([value], pa.string()).take(pa.array([0] * rows_read, pa.int64()))
            table = table.append_column(name, column) if table.num_columns else pa.table({name: column})
    return table


def image_batches(unit: Unit) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(offset in the unit, batch of columns jpg_0 and jpg_1) over the unit's rows, a few rows in memory at a time.

    A batch never spans row groups: damage to one costs no rows of those before it.
    """
    columns = list(IMAGES)
    with open_parquet(unit.file) as parquet:
        offset = 0
        for group in unit.row_groups:
            end = offset + parquet.metadata.row_group(group).num_rows
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns):
                batch = batch.select(columns).slice(0, unit.rows - offset)
                yield offset, batch
                offset += len(batch)
                if offset == unit.rows:
                    return
            if offset != end:
                raise pa.ArrowInvalid(f"row group {group} lacks {end - offset} rows of images")


@contextmanager
def open_parquet(file: SourceFile) -> Iterator[pq.ParquetFile]:
    """A source file whose columns and row counts have been checked.

    Raises:
        UnreadableFileError: the bytes are not Parquet with the columns of pairs.
        SourceError: the file cannot be reached.
    """
    with file.open() as raw:
        handle = _Watched(raw)
        try:
            with pq.ParquetFile(pa.PythonFile(handle, mode="r")) as parquet:
                _check_counts(parquet.metadata, file.size)
                rows.check_schema(parquet.schema_arrow, file.name, file.partitions)
                yield parquet
        except (SourceError, GeneratorExit):
            raise
        # Arrow raises nearly any type on damaged input, OSError for a damaged page among them. What the transport
        # raised has been noted on its way through the handle.
        except (pa.ArrowException, OSError, LookupError, ValueError, TypeError, OverflowError) as error:
            if handle.failure is not None:
                raise SourceError(
                    f"Cannot read {file.uri}: {handle.failure}.", "Check that it can be reached, and run again."
                ) from handle.failure
            raise UnreadableFileError(
                f"{file.name} is not readable Parquet: {_message(error)}.", "Replace the file, or remove it."
            ) from error


def _check_counts(metadata: pq.FileMetaData, size: int) -> None:
    """Refuse absurd row counts before anything is allocated for them; two images take more than a byte.

    `size` is 0 where the source does not say it.
    """
    counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if min(counts, default=0) < 0 or sum(counts) > size > 0:
        raise pa.ArrowInvalid(f"its row groups claim {sum(counts)} rows in {size} bytes")


def _message(error: Exception) -> str:
    return _ADDRESS.sub("", f"{type(error).__name__}: {error}".partition("\n")[0][:200])


class _Watched:
    """A file that remembers the transport's exception, which Arrow may pass on as any other."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw = raw
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self.raw.read(size)
        except Exception as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        return self.raw.tell()

    @property
    def closed(self) -> bool:
        return self.raw.closed

    def close(self) -> None:
        self.raw.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False
