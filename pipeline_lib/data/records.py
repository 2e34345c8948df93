"""Records that users bring as a file: Parquet, JSON, JSON lines, .csv, .tsv, in any case of the suffix.

Parquet is known by its first bytes, whatever the file is called; JSON and JSON lines are told apart by what they hold.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal

import polars as pl

from pipeline_lib.core.errors import TextFileError, excerpt
from pipeline_lib.core.texts import lines

Kind = Literal["parquet", "json", "csv", "tsv", "text"]
MAGIC = b"PAR1"
SUFFIXES: dict[str, Kind] = {
    ".parquet": "parquet",
    ".parq": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
}


def kind_of(content: bytes, name: str) -> Kind | None:
    """The format of a file, None where neither its first bytes nor its name say it."""
    if content.startswith(MAGIC):
        return "parquet"
    return SUFFIXES.get(PurePath(name).suffix.lower())


def parquet(content: bytes, where: str) -> pl.DataFrame:
    """The table of a Parquet file; raises TextFileError."""
    try:
        return pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise TextFileError(f"{where} is not readable Parquet: {error}.", "Write the file again.") from error


def separated(text: str, kind: Kind, where: str) -> tuple[list[str], list[dict[str, str | None]]]:
    """The header of a table, and its rows; empty cells are None.

    The usual form of each: quotes are text in a .tsv, and enclose text in a .csv.

    Raises:
        TextFileError: a row has more cells than the header, as where a comma is not in quotes; or quotes do not close.
    """
    tabs = kind == "tsv"
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    header: list[str] = []
    found: list[dict[str, str | None]] = []
    try:
        header = [name.strip() for name in next(rows, [])]
        for row in rows:
            if len(row) > len(header):
                raise TextFileError(
                    f"{where}, line {rows.line_num}: {len(row)} cells, but the header has {len(header)}.",
                    "Take the tab out of the text." if tabs else "Put text that has a comma in it into quotes.",
                )
            if row:
                found.append(dict(zip(header, (cell or None for cell in row), strict=False)))
    except csv.Error as error:
        raise TextFileError(
            f"{where}, line {rows.line_num}: {error}.", "Put text with quotes in it into quotes, and double its own."
        ) from error
    return header, found


def json_values(text: str, where: str) -> Any:
    """The value of a JSON file, or the list of those of JSON lines; raises TextFileError."""
    rows = [(i, line) for i, line in enumerate(lines(text), start=1) if line.strip()]
    found: list[Any] = []
    try:
        try:
            return json.loads(text)
        except ValueError:
            if len(rows) < 2:
                raise
            found.extend(json.loads(line) for _, line in rows)
    except (ValueError, RecursionError) as error:
        at = f"in line {rows[len(found)][0]}: " if found else ""
        raise TextFileError(f"{where} is neither Parquet nor JSON: {at}{error}.", "Write the file again.") from error
    return found


def records_of(value: Any, known: Collection[str], where: str) -> list[Any]:
    """The records in a JSON value, each an object or a text.

    Args:
        value: a list; one record; an object of columns, as lists or as pandas writes them; an object that holds a list
            of records, or records by their ids.
        known: names of columns, in lower case, by which records are told from other objects.

    Raises:
        TextFileError: it is none of these.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, str):  # the only line of JSON lines
        return [value]
    if isinstance(value, dict):
        inside = [part for part in value.values() if isinstance(part, list) and part and _is_record(part[0], known)]
        if len(inside) == 1:
            return inside[0]
        columns = {name: part for name, part in value.items() if name.strip().lower() in known}
        if columns:
            return _rows(columns, where)
        if value and all(_is_record(part, known) for part in value.values()):
            return list(value.values())
    raise TextFileError(
        f"{where} holds {excerpt(value)}, which are no records.", f"Give a list of objects with {', '.join(known)}."
    )


def column(names: Sequence[str], wanted: Sequence[str], where: str) -> str | None:
    """The first of `wanted` (in lower case) that is among the names of columns, in any case, as it is written there.

    Raises:
        TextFileError: two columns have the name.
    """
    for one in wanted:
        found = [name for name in names if name.strip().lower() == one]
        if len(found) > 1:
            raise TextFileError(f"{where} has {len(found)} columns {one!r}: {', '.join(found)}.", "Leave one of them.")
        if found:
            return found[0]
    return None


def _is_record(value: Any, known: Collection[str]) -> bool:
    return isinstance(value, dict) and any(name.strip().lower() in known for name in value)


def _rows(columns: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Rows of columns; what is neither list nor object stands for all of them, and alone is one record."""
    lists = {
        name: list(part.values()) if isinstance(part, dict) else part
        for name, part in columns.items()
        if isinstance(part, list | dict)
    }
    if not lists:
        return [dict(columns)]
    lengths = {name: len(part) for name, part in lists.items()}
    if len(set(lengths.values())) > 1:
        raise TextFileError(f"{where} has columns of different lengths: {lengths}.", "Give each row every column.")
    size = next(iter(lengths.values()))
    every = {name: lists.get(name, [part] * size) for name, part in columns.items()}
    return [{name: part[i] for name, part in every.items()} for i in range(size)]
