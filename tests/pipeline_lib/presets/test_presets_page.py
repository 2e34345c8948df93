"""docs/presets.md, where every number of the presets has its source, beside the presets."""

from __future__ import annotations

import ast
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.config import EncodeConfig, EvaluateConfig, TrainConfig
from pipeline_lib.presets import METHODS, PRESETS, Alignment

PAGE = Path(__file__).resolve().parents[3] / "docs" / "presets.md"
COMMON = "All methods"
Rows = dict[str, dict[str, Any]]
"""Setting -> preset -> value."""


def tables() -> dict[str, Rows]:
    """The page's tables by the heading above them."""
    found: dict[str, Rows] = {}
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        rows = [
            [cell.strip() for cell in line.strip("|\n").split("|")] for line in section.splitlines() if line[:1] == "|"
        ]
        if not rows or rows[0][0] != "setting":
            continue
        head, _, *body = rows
        found[heading] = {}
        for name, *cells in body:
            assert len(cells) == len(head) - 1 and name not in found[heading], (heading, name)
            values = zip(head[1:-1], cells[:-1], strict=True)
            found[heading][name] = {preset: value(cell) for presets, cell in values for preset in presets.split(", ")}
            assert set(found[heading][name]) == set(PRESETS), (heading, name)
    return found


def value(cell: str) -> Any:
    try:
        return ast.literal_eval(cell)
    except (SyntaxError, ValueError):
        return cell


def actual(chosen: Alignment, name: str) -> Any:
    """What a preset says for a row of its method's table."""
    pairs = chosen.train.batch_size * chosen.train.gradient_accumulation
    derived = {
        "labels": chosen.labels,
        "pairs per step": pairs,
        "rate / pairs": pytest.approx(chosen.train.learning_rate / pairs, rel=1e-12),
    }
    return derived[name] if name in derived else getattr(chosen.train, name)


def unlisted(config: Any, listed: set[str]) -> list[str]:
    """Settings that differ from their default and have no row."""
    return [
        field.name
        for field in fields(config)
        if field.name not in listed and (field.default is MISSING or getattr(config, field.name) != field.default)
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PRESETS)
def test_the_page_says_what_a_method_is_trained_with(name: str, method: str) -> None:
    page, chosen = tables(), PRESETS[name].methods[method]
    rows = {**page[COMMON], **page[method]}
    assert {row: values[name] for row, values in rows.items()} == {row: actual(chosen, row) for row in rows}
    assert unlisted(chosen.train, set(rows)) == []


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_says_how_images_are_encoded_and_models_judged(name: str) -> None:
    page = tables()
    for heading, config in (("Encoding", PRESETS[name].encode), ("Evaluation", PRESETS[name].evaluate)):
        rows = page[heading]
        assert {row: values[name] for row, values in rows.items()} == {row: getattr(config, row) for row in rows}
        assert unlisted(config, set(rows)) == []


def test_the_page_has_no_other_settings() -> None:
    page = tables()
    assert set(page) == {*METHODS, COMMON, "Encoding", "Evaluation"}
    known = {field.name for config in (TrainConfig, EncodeConfig, EvaluateConfig) for field in fields(config)}
    assert {row for rows in page.values() for row in rows} <= {*known, "labels", "pairs per step", "rate / pairs"}


def test_every_row_has_a_source() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    without = [line.split("|")[1].strip() for line in lines if line.rstrip().endswith("| |")]
    assert set(without) == {"method", "rate / pairs"}
