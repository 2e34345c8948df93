"""Shares with their intervals, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from pipeline_lib.reports.svg import AXIS, anchor, chart, dot, line, text
from pipeline_lib.reports.words import percent

Verdict = Literal["better", "worse", "even"]

ROW = 54


@dataclass(frozen=True)
class Whisker:
    """One row; the three are shares 0..1. `strong` rows (summaries) are drawn bolder."""

    label: str
    point: float
    low: float
    high: float
    strong: bool = False


def verdict(low: float, high: float) -> Verdict:
    """Whether an interval lies above one half, below it, or holds it."""
    if low > 0.5:
        return "better"
    return "worse" if high < 0.5 else "even"


def whisker_chart(rows: Sequence[Whisker], title: str, identifier: str) -> Markup:
    """Shares as dots with their 95% intervals on an axis from 0 to 100%; 50% is chance, or no difference.

    `identifier` must be unique in the page.
    """
    height = ROW * len(rows) + AXIS
    words = "; ".join(f"{r.label}: {percent(r.point)}, interval {percent(r.low)} to {percent(r.high)}" for r in rows)
    parts = []
    for tick in (0, 25, 50, 75, 100):
        parts.append(line(tick, 0, tick, height - AXIS, "middle-line" if tick == 50 else "grid-line"))
        parts.append(text(tick, height - 7, f"{tick}%", "tick", anchor(tick)))
    for number, row in enumerate(rows):
        top = ROW * number
        kind = verdict(row.low, row.high) + (" strong" if row.strong else "")
        value = f"{percent(row.point)}  ({percent(row.low, 0)} to {percent(row.high, 0)})"
        if number:
            parts.append(line(0, top, 100, top, "row-line"))
        parts.append(f'<g class="{kind}">')
        parts.append(text(0, top + 20, row.label, "label", "start"))
        parts.append(text(100, top + 20, value, "value", "end"))
        middle = top + 36
        parts.append(line(100 * row.low, middle, 100 * row.high, middle, "whisker"))
        for end in (row.low, row.high):
            parts.append(line(100 * end, middle - 6, 100 * end, middle + 6, "whisker"))
        parts.append(f"{dot(100 * row.point, middle, 7 if row.strong else 5.5)}</g>")
    return chart(height, title, f"{words}.", identifier, parts)
