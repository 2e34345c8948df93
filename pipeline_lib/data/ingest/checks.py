"""Sources of which nothing can be used: the user's mistake, not one row's damage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import polars as pl

from pipeline_lib.core.errors import SourceError, UnreadableFileError
from pipeline_lib.core.store import Dataset, DatasetWriter
from pipeline_lib.data.ingest.reasons import Reason
from pipeline_lib.data.ingest.rows import NOT_CHOSEN, OTHER_SPLIT
from pipeline_lib.data.ingest.units import Unit
from pipeline_lib.data.ingest.work import parsed, read_work
from pipeline_lib.data.sources import Source

_REMEDY = "Check that it is the right source, and that its columns hold what docs/data.md says of them."
_SHOWN = 5
"""Splits that an error lists."""


def require_sound_rows(w: DatasetWriter, source: Source, units: Sequence[Unit]) -> None:
    """Refuse a source no row of which can become a pair, before any image is decoded.

    Raises:
        UnreadableFileError: no file can be read.
        SourceError: every row is of another split, or is rejected.
    """
    counts: Counter[str] = Counter()
    problem, splits = "", set[str]()
    for unit in units:
        read = read_work(w, parsed(unit.index), ["reason", "detail"])
        if read["reason"].has_nulls():
            return
        counts.update(dict(read["reason"].value_counts().iter_rows()))
        unread = read.filter(pl.col("reason") == Reason.FILE_UNREADABLE.value)
        problem = problem or (unread["detail"][0] if len(unread) else "")
        splits |= set(read.filter(pl.col("reason") == OTHER_SPLIT)["detail"].unique().to_list())
    if set(counts) == {Reason.FILE_UNREADABLE.value}:
        raise UnreadableFileError(
            f"No file of {source.url} can be read; the first: {problem}",
            "Give complete Parquet with Pick-a-Pic's columns.",
        )
    if set(counts) == {OTHER_SPLIT}:
        more = " ..." if len(splits) > _SHOWN else ""
        raise SourceError(
            f"{source.url} has no rows of split {source.split!r}, by its column 'split'.",
            f"Choose split={' or '.join(sorted(splits)[:_SHOWN])}{more}.",
        )
    if counts and NOT_CHOSEN not in counts:
        raise SourceError(f"None of the rows of {source.url} is a pair: {_listed(counts)}.", _REMEDY)


def require_pairs(w: DatasetWriter, source: Source, counts: Mapping[str, int]) -> None:
    """Refuse a source that yielded no pair; the filter `models` may leave out all. Raises SourceError."""
    if not counts["pairs"] and not counts.get(NOT_CHOSEN):
        reasons = {name.removeprefix("rejected:"): n for name, n in counts.items() if name.startswith("rejected:")}
        raise SourceError(
            f"None of the {counts['rows']} rows of {source.url} is a pair: {_listed(reasons)}. "
            f"{w.uri}/quarantine names each.",
            _REMEDY,
        )


def require_some_pairs(ingested: Dataset) -> None:
    """Refuse a finished ingest that has no pairs, before anything is done with it. Raises SourceError."""
    if ingested.counts.get("pairs") == 0:
        raise SourceError(
            f"{ingested.uri} has no pairs: none of the {ingested.counts.get('rows', 0)} rows it was made from is one "
            "that can be used or was chosen.",
            "Look at its quarantine and at `models`, and ingest another source, split or choice.",
        )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
