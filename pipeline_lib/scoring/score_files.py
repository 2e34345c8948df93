"""Files of scores that others published, in any format of `records`; without a suffix it is told by the content."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import polars as pl

from pipeline_lib.core.errors import SchemaError, SourceError, TextFileError
from pipeline_lib.core.texts import decoded
from pipeline_lib.core.transport import transport_errors
from pipeline_lib.core.urls import place
from pipeline_lib.data.prompts import normalise_prompt, prompt_id
from pipeline_lib.data.records import column, json_values, kind_of, parquet, records_of, separated

COLUMNS = ("image_uid", "prompt_id", "prompt", "score", "scorer")
REMEDY = "Give a table or JSON with image_uid, prompt or prompt_id, score and, if several, scorer."


@dataclass(frozen=True)
class ScoreFile:
    """A file that has been read.

    Attributes:
        name, sha256: of the file.
        rows: row (its number, from 1), image_uid, prompt_id (null where there is none), score (float64, null where
            it is no number), scorer (null throughout where the file has no such column).
    """

    name: str
    sha256: str
    rows: pl.DataFrame

    def scorers(self) -> list[str]:
        """The names in the column `scorer`, sorted."""
        return sorted(self.rows["scorer"].drop_nulls().unique().to_list())


def read_scores(file: str) -> ScoreFile:
    """Read a whole file of scores; raises SourceError, or its TextFileError, or SchemaError."""
    where = place(file)
    try:
        content = _content(where)
    except transport_errors(where) as error:
        raise SourceError(f"Cannot read {where}: {error}.", "Check the path, credentials and the endpoint.") from error
    table = _table(content, where)
    missing = [name for name in ("image_uid", "score") if name not in table.columns]
    if missing:
        raise SchemaError(
            f"{where}: missing column(s) {', '.join(missing)}; found {', '.join(table.columns)}.", REMEDY
        )
    given = {
        name: pl.col(name).cast(pl.String) if name in table.columns else pl.lit(None, pl.String)
        for name in COLUMNS
        if name != "score"
    }
    try:
        rows = table.select(
            pl.int_range(1, pl.len() + 1).alias("row"),
            *(text.alias(name) for name, text in given.items()),
            pl.col("score").cast(pl.Float64, strict=False),
        )
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"{where}: {error}.", REMEDY) from error
    if rows.is_empty():
        raise SourceError(f"{where} holds no rows.", REMEDY)
    if "scorer" in table.columns and rows["scorer"].null_count():
        raise SchemaError(
            f"{where}: {rows['scorer'].null_count()} rows have no scorer.", "Name the scorer in each row."
        )
    # A file may have ids of its own: the prompt itself, where it is there, says which it is.
    ids = pl.when(pl.col("prompt").is_null()).then("prompt_id").otherwise(_prompt_ids(rows["prompt"]))
    rows = rows.select("row", "image_uid", ids.alias("prompt_id"), "score", "scorer")
    return ScoreFile(where.rstrip("/").rpartition("/")[2], hashlib.sha256(content).hexdigest(), rows)


def _content(where: str) -> bytes:
    if where.startswith("/"):
        return Path(where).read_bytes()
    with fsspec.open(where, "rb").open() as handle:
        content: bytes = handle.read()
    return content


def _table(content: bytes, where: str) -> pl.DataFrame:
    """Those of COLUMNS that the file has, under these names."""
    kind = kind_of(content, where)
    if kind == "parquet":
        table = parquet(content, where)
        return _named(table, where) if table.width else table
    text = decoded(content, where)
    if kind is None and not text.lstrip().startswith(("[", "{")):
        kind = "tsv" if "\t" in text.partition("\n")[0] else "csv"
    if kind in ("csv", "tsv"):
        header, rows = separated(text, kind, where)
        names = {name: column(header, [name], where) for name in COLUMNS}
        if not any(names.values()):
            raise TextFileError(f"{where} is neither Parquet nor JSON, nor a table with these columns.", REMEDY)
        cells: dict[str, list[Any]] = {n: [row.get(there) for row in rows] for n, there in names.items() if there}
        if "score" in cells:
            cells["score"] = [_number(cell) for cell in cells["score"]]
        return _frame(cells)
    if kind == "text":
        raise TextFileError(f"{where} is a text file.", REMEDY)
    records = records_of(json_values(text, where), COLUMNS, where)
    if not all(isinstance(record, dict) for record in records):
        raise SchemaError(f"{where} holds values that are not records.", REMEDY)
    every = list(dict.fromkeys(name for record in records for name in record))
    found = {name: there for name in COLUMNS if (there := column(every, [name], where))}
    return _frame({name: [record.get(there) for record in records] for name, there in found.items()})


def _named(table: pl.DataFrame, where: str) -> pl.DataFrame:
    found = {name: there for name in COLUMNS if (there := column(table.columns, [name], where))}
    return table.rename({there: name for name, there in found.items()})


def _frame(columns: dict[str, list[Any]]) -> pl.DataFrame:
    """Values that are not what a column holds become null, and are rejected row by row later."""
    return pl.DataFrame(
        {name: [_value(value, name) for value in values] for name, values in columns.items()},
        schema={name: pl.Float64 if name == "score" else pl.String for name in columns},
    )


def _value(value: Any, name: str) -> float | str | None:
    if value is None or name != "score":
        return (
            None if value is None else str(value).encode(errors="replace").decode()
        )  # JSON can spell lone surrogates
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def _number(cell: str | None) -> float | None:
    """A cell of a table of text as a number, None where it is none."""
    try:
        return None if cell is None else float(cell)
    except ValueError:
        return None


def _prompt_ids(prompts: pl.Series) -> pl.Series:
    """Ids of the normalised prompts; null for a prompt that is missing or blank."""
    texts = prompts.drop_nulls().unique()
    ids = [prompt_id(text) if (text := normalise_prompt(given)) else None for given in texts]
    return prompts.replace_strict(texts, ids, default=None, return_dtype=pl.String)
