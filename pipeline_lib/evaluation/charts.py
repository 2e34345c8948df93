"""SVG charts drawn by hand: no library, no script, no request.

Horizontal positions are percentages and vertical ones pixels, without a viewBox, so that a chart fills any width while
its text keeps its size. Colours come from the page's CSS classes. Every chart has a title, and a description that says
it in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

Verdict = Literal["better", "worse", "even"]

ROW = 54
AXIS = 26
CURVE_HEIGHT = 150


@dataclass(frozen=True)
class Whisker:
    """One row of the win-rate chart; rates are shares 0..1. `strong` rows (summaries) are drawn bolder."""

    label: str
    point: float
    low: float
    high: float
    strong: bool


@dataclass(frozen=True)
class Curve:
    """A metric of the training run, one value per logged step."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]


def verdict(low: float, high: float) -> Verdict:
    """Whether an interval of win rates lies above one half, below it, or holds it."""
    if low > 0.5:
        return "better"
    return "worse" if high < 0.5 else "even"


def percent(share: float, digits: int = 1) -> str:
    """`0.713` -> `71.3%`."""
    return f"{100 * share:.{digits}f}%"


def whisker_chart(rows: Sequence[Whisker], title: str, identifier: str) -> Markup:
    """Win rates as dots with their 95% intervals on an axis from 0 to 100%, one row each; 50% is no difference.

    `identifier` must be unique in the page; it links the chart to its title and description.
    """
    height = ROW * len(rows) + AXIS
    words = "; ".join(f"{r.label}: {percent(r.point)}, interval {percent(r.low)} to {percent(r.high)}" for r in rows)
    parts = [_head(height, title, f"{words}.", identifier)]
    for tick in (0, 25, 50, 75, 100):
        kind = "middle-line" if tick == 50 else "grid-line"
        parts.append(_line(tick, 0, tick, height - AXIS, kind))
        parts.append(_text(tick, height - 7, f"{tick}%", "tick", _anchor(tick)))
    for number, row in enumerate(rows):
        top = ROW * number
        kind = verdict(row.low, row.high) + (" strong" if row.strong else "")
        value = f"{percent(row.point)}  ({percent(row.low, 0)} to {percent(row.high, 0)})"
        if number:
            parts.append(_line(0, top, 100, top, "row-line"))
        parts.append(f'<g class="{kind}">')
        parts.append(_text(0, top + 20, row.label, "label", "start"))
        parts.append(_text(100, top + 20, value, "value", "end"))
        middle = top + 36
        parts.append(_line(100 * row.low, middle, 100 * row.high, middle, "whisker"))
        for end in (row.low, row.high):
            parts.append(_line(100 * end, middle - 6, 100 * end, middle + 6, "whisker"))
        parts.append(f'<circle cx="{100 * row.point:.2f}%" cy="{middle}" r="{7 if row.strong else 5.5}"/></g>')
    parts.append("</svg>")
    return Markup("".join(parts))


def curve_chart(curve: Curve, identifier: str) -> Markup:
    """A metric against training steps: every logged value thin, their running mean bold. Needs at least one value."""
    points = list(zip(curve.steps, curve.values, strict=True))
    values = curve.values
    low, high = min(values), max(values)
    first, last = points[0][0], points[-1][0]
    description = (
        f"{len(points)} values from step {first} to {last}: first {values[0]:.4g}, last {values[-1]:.4g}, "
        f"lowest {low:.4g}, highest {high:.4g}."
    )
    smooth = _running_mean(values)
    height = CURVE_HEIGHT + AXIS + 14
    parts = [_head(height, f"{curve.label} while training", description, identifier)]
    for y in (14, 14 + CURVE_HEIGHT / 2, 14 + CURVE_HEIGHT):
        parts.append(_line(0, y, 100, y, "grid-line"))
    parts.append(
        f'<svg x="0" y="14" width="100%" height="{CURVE_HEIGHT}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{_path(points, values, (first, last), (low, high), 'curve raw')}"
        f"{_path(points, smooth, (first, last), (low, high), 'curve')}</svg>"
    )
    parts.append(_text(0, 11, _short(high), "tick", "start"))
    parts.append(_text(0, 10 + CURVE_HEIGHT, _short(low), "tick", "start"))
    parts.append(_text(0, height - 7, f"step {first}", "tick", "start"))
    parts.append(_text(100, height - 7, f"{last}", "tick", "end"))
    parts.append("</svg>")
    return Markup("".join(parts))


def _running_mean(values: Sequence[float]) -> list[float]:
    """Mean of the values within a tenth of the run around each one."""
    reach = max(1, len(values) // 20)
    return [
        math.fsum(window) / len(window)
        for window in (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    ]


def _path(
    points: Sequence[tuple[int, float]],
    values: Sequence[float],
    steps: tuple[int, int],
    bounds: tuple[float, float],
    kind: str,
) -> str:
    width, span = max(1, steps[1] - steps[0]), (bounds[1] - bounds[0]) or 1.0
    spots = [
        f"{100 * (step - steps[0]) / width:.2f},{100 - 100 * (value - bounds[0]) / span:.2f}"
        for (step, _), value in zip(points, values, strict=True)
    ]
    return f'<path class="{kind}" vector-effect="non-scaling-stroke" d="M{" L".join(spots)}"/>'


def _head(height: float, title: str, description: str, identifier: str) -> str:
    return (
        f'<svg class="chart" width="100%" height="{height:g}" role="img"'
        f' aria-labelledby="{identifier}-t {identifier}-d">'
        f'<title id="{identifier}-t">{escape(title)}</title><desc id="{identifier}-d">{escape(description)}</desc>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.2f}%" y1="{y1:g}" x2="{x2:.2f}%" y2="{y2:g}"/>'


def _text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:g}%" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _anchor(tick: int) -> str:
    return {0: "start", 100: "end"}.get(tick, "middle")
