"""Estimates with their intervals and the single runs behind them, one row each, on an axis that fits them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from pipeline_lib.reports.axis import fitted
from pipeline_lib.reports.intervals import ROW, Verdict
from pipeline_lib.reports.svg import AXIS, chart, dot, line, text

LONGEST = 30
"""Characters of a label: what fits beside a value in the width of a phone, where the interval is left out."""


@dataclass(frozen=True)
class Spread:
    """One row.

    Attributes:
        low, high: ends of the interval; None where it is not known.
        runs: the single runs' values, drawn as dots below the interval.
        kind: tone of the row; "even" rows are grey.
        strong: drawn bolder, with a line through all rows at its point (the reference).
    """

    label: str
    point: float
    low: float | None
    high: float | None
    runs: Sequence[float] = ()
    kind: Verdict = "even"
    strong: bool = False


@dataclass(frozen=True)
class Drawing:
    """What a chart consists of: its height in pixels, its elements, and its content in words."""

    height: float
    parts: Sequence[str]
    words: str


def spread_chart(
    rows: Sequence[Spread], title: str, identifier: str, written: Callable[[float], str], null: float | None = None
) -> Markup:
    """The chart of at least one row; `identifier` must be unique in the page.

    Args:
        written: how a value is written.
        null: the value of no effect; it gets a line where it is not far from the rows.
    """
    drawn = spread_drawing(rows, written, null)
    return chart(drawn.height, title, drawn.words, identifier, drawn.parts)


def spread_drawing(rows: Sequence[Spread], written: Callable[[float], str], null: float | None = None) -> Drawing:
    """As `spread_chart`, for a figure with a frame of its own."""
    drawn = [value for row in rows for value in (row.point, row.low, row.high, *row.runs) if value is not None]
    axis = fitted(drawn, null)
    tall = 68 if any(row.runs for row in rows) else ROW
    bottom = tall * len(rows)
    parts = []
    for tick in axis.ticks:
        place = axis.place(tick)
        parts.append(line(place, 0, place, bottom, "grid-line"))
        side = "start" if place < 6 else "end" if place > 94 else "middle"
        parts.append(text(round(place, 2), bottom + AXIS - 7, written(tick), "tick", side))
    if null is not None and axis.holds(null):
        parts.append(line(axis.place(null), 0, axis.place(null), bottom, "middle-line"))
    for row in rows:
        if row.strong:
            parts.append(line(axis.place(row.point), 0, axis.place(row.point), bottom, "reference-line"))
    for number, row in enumerate(rows):
        top = tall * number
        if number:
            parts.append(line(0, top, 100, top, "row-line"))
        parts.append(f'<g class="{row.kind}{" strong" if row.strong else ""}">')
        parts.append(text(0, top + 20, shortened(row.label), "label", "start"))
        parts.append(_value(row, top + 20, written))
        middle = top + 36
        if row.low is not None and row.high is not None:
            parts.append(line(axis.place(row.low), middle, axis.place(row.high), middle, "whisker"))
            for end in (row.low, row.high):
                parts.append(line(axis.place(end), middle - 6, axis.place(end), middle + 6, "whisker"))
        parts.append(dot(axis.place(row.point), middle, 7 if row.strong else 5.5))
        parts += [f'<g class="run">{dot(axis.place(run), middle + 17, 3.5)}</g>' for run in row.runs]
        parts.append("</g>")
    words = "; ".join(_words(row, written) for row in rows)
    return Drawing(bottom + AXIS, parts, f"{words}.")


def shortened(label: str) -> str:
    """A label cut in its middle to what fits; names of settings differ at either end."""
    if _width(label) <= LONGEST:
        return label
    start, end = label, label
    while _width(start) > LONGEST // 2:
        start = start[:-1]
    while _width(end) > LONGEST - LONGEST // 2 - 1:
        end = end[1:]
    return f"{start}…{end}"


def _width(words: str) -> int:
    """In characters, Chinese ones counted twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in words)


def _value(row: Spread, y: float, written: Callable[[float], str]) -> str:
    ends = "" if row.low is None or row.high is None else f"  ({written(row.low)} to {written(row.high)})"
    aside = f'<tspan class="ends">{escape(ends)}</tspan>' if ends else ""
    return f'<text class="value" x="100%" y="{y:g}" text-anchor="end">{escape(written(row.point))}{aside}</text>'


def _words(row: Spread, written: Callable[[float], str]) -> str:
    interval = "" if row.low is None or row.high is None else f", interval {written(row.low)} to {written(row.high)}"
    runs = f", single runs {', '.join(written(run) for run in row.runs)}" if row.runs else ""
    return f"{row.label}: {written(row.point)}{interval}{runs}"
