"""Where score tables have the images of pairs, whatever the table's order, against a dictionary."""

from __future__ import annotations

import random

import polars as pl
import pytest

from pipeline_lib.labels import lookup

IMAGES = 60


def world(seed: int) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """(keys of both sides, keys of a table that lists them as the pairs show them); some images are shown again."""
    chance = random.Random(seed)
    shown = [(f"image-{n}", f"prompt-{n // 5}") for n in range(IMAGES)]
    left = [shown[max(0, i - chance.choice([0, 0, 1, 3, 40]))] for i in range(IMAGES - 1)]
    right = [shown[i + 1] for i in range(IMAGES - 1)]
    order = list(dict.fromkeys(key for pair in zip(left, right, strict=True) for key in pair))
    return [_keys(left), _keys(right)], _keys(order)


def _keys(rows: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["image_uid", "prompt_id"], orient="row")


def plainly(side: pl.DataFrame, table: pl.DataFrame) -> list[int | None]:
    row_of = {key: row for row, key in enumerate(table.rows())}
    return [row_of.get(key) for key in side.rows()]


@pytest.mark.parametrize("order", ["as shown", "shuffled", "reversed"])
@pytest.mark.parametrize("stretch", [1, 7, 1000])
@pytest.mark.parametrize("lost", [0, 9, IMAGES])
def test_rows_are_those_of_a_dictionary(order: str, stretch: int, lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "STRETCH", stretch)
    monkeypatch.setattr(lookup, "REACH", 4)
    for seed in range(5):
        sides, table = world(seed)
        rows = {
            "as shown": table,
            "shuffled": table.sample(fraction=1, shuffle=True, seed=seed),
            "reversed": table[::-1],
        }
        kept = rows[order].head(max(1, len(table) - lost))
        found = lookup.find(sides, kept)
        assert [rows.to_list() for rows in found] == [plainly(side, kept) for side in sides]


def test_a_table_in_the_order_of_the_pairs_is_found_nearby(monkeypatch: pytest.MonkeyPatch) -> None:
    sides, table = world(0)
    monkeypatch.setattr(lookup, "_anywhere", lambda rows, wanted, keys: rows)
    assert all(rows.null_count() == 0 for rows in lookup.find(sides, table))
    monkeypatch.setattr(lookup, "STRETCH", 5)
    monkeypatch.setattr(lookup, "REACH", 4)
    near = lookup.find(sides, table)
    assert 0 < sum(rows.null_count() for rows in near) < 20  # images shown again after more than REACH rows
    assert near[1].null_count() == 0


def test_a_key_far_from_its_double_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "STRETCH", 2)
    monkeypatch.setattr(lookup, "REACH", 2)
    sides, table = world(1)
    with pytest.raises(pl.exceptions.ComputeError):
        lookup.find(sides, pl.concat([table, table.head(1)]))
