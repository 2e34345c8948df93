"""Where a score table has the images of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import xor

import numpy as np
import polars as pl

STRETCH = 8192
"""Pairs looked up at a time."""
REACH = 4096
"""Rows before a stretch's place in the table that may hold images shown again."""


def find(sides: Sequence[pl.DataFrame], keys: pl.DataFrame) -> list[pl.Series]:
    """The row of `keys` that equals each row of each side; null where none does.

    Joined by a 64-bit hash, several times faster than by strings, and compared by a second one: two keys are taken for
    one with probability 2^-128. Where the first does not tell keys apart, joined by the strings.

    Args:
        sides: keys of image_0 of all pairs, and of image_1; columns as in `keys`.
        keys: image_uid, or image_uid and prompt_id.

    Raises:
        pl.exceptions.ComputeError: `keys` has a key twice.
    """
    ours, theirs = [_hashed(side) for side in sides], _hashed(keys)
    if np.diff(np.sort(theirs["hash"].to_numpy())).all():  # no hash twice
        found = _nearby([side["hash"] for side in ours], theirs["hash"])
        found = [_anywhere(rows, side["hash"], theirs["hash"]) for rows, side in zip(found, ours, strict=True)]
        if all((theirs["check"].gather(rows) == side["check"]).all() for rows, side in zip(found, ours, strict=True)):
            return found
    numbered = keys.with_row_index("row")
    return [
        side.join(numbered, on=keys.columns, how="left", validate="m:1", maintain_order="left")["row"]
        for side in sides
    ]


def _nearby(sides: Sequence[pl.Series], keys: pl.Series) -> list[pl.Series]:
    """Rows of the keys that lie where a table in the order of the pairs has them; null elsewhere.

    Score tables mostly list images as the pairs show them, so n pairs need no more than the next 2n rows, and some
    that earlier pairs showed. A join of so few keys stays in the processor's cache: it is several times faster than
    one with the whole table, and its time grows with the number of pairs, not faster.
    """
    found: list[list[pl.Series]] = [[] for _ in sides]
    reached = 0
    for at in range(0, len(sides[0]), STRETCH):
        parts = [side.slice(at, STRETCH) for side in sides]
        first = max(0, reached - REACH)
        near = keys.slice(first, reached - first + sum(map(len, parts))).to_frame().with_row_index("row", first)
        rows = _joined(pl.concat(parts), near)
        reached = max(reached, 1 + int(rows.drop_nulls().to_numpy().max(initial=0)))
        for i, part in enumerate(parts):
            found[i].append(rows.slice(sum(map(len, parts[:i])), len(part)))
    return [pl.concat(rows) for rows in found]


def _anywhere(rows: pl.Series, wanted: pl.Series, keys: pl.Series) -> pl.Series:
    """`rows`, and where they are null the row of the key, wherever in the table."""
    missing = rows.is_null()
    if not missing.any():
        return rows
    lost = wanted.filter(missing)
    numbered = keys.to_frame().with_row_index("row").filter(pl.col("hash").is_in(lost.implode()))
    return rows.scatter(missing.arg_true(), _joined(lost, numbered))


def _joined(wanted: pl.Series, numbered: pl.DataFrame) -> pl.Series:
    return wanted.to_frame().join(numbered, on="hash", how="left", maintain_order="left")["row"]


def _hashed(table: pl.DataFrame) -> pl.DataFrame:
    """Two independent hashes of each row: `hash` and `check`."""
    return table.select(
        reduce(xor, (pl.col(name).hash(seed + i) for i, name in enumerate(table.columns))).alias(alias)
        for alias, seed in (("hash", 0), ("check", 2))
    ).rechunk()
