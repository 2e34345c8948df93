"""Whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline_lib.reports.svg import AXIS, anchor, chart, dot, line, text
from pipeline_lib.reports.words import count, percent

SIDE = 280
TOP = 8


@dataclass(frozen=True)
class Bin:
    """Cases with like predictions.

    Attributes:
        predicted: their mean predicted probability, 0..1.
        observed, low, high: share of them that came true and its interval, 0..1.
        count: how many there are.
    """

    predicted: float
    observed: float
    low: float
    high: float
    count: int


def calibration_chart(bins: Sequence[Bin], title: str, identifier: str) -> Markup:
    """Observed share against predicted probability, with intervals; on the diagonal the two are equal.

    `identifier` must be unique in the page. Larger bins have larger dots.
    """
    most = max((b.count for b in bins), default=1) or 1
    parts = []
    for tick in (0, 25, 50, 75, 100):
        parts.append(line(0, _y(tick / 100), 100, _y(tick / 100), "grid-line"))
        parts.append(line(tick, TOP, tick, TOP + SIDE, "grid-line"))
        parts.append(text(tick, TOP + SIDE + AXIS - 7, f"{tick}%", "tick", anchor(tick)))
        if tick:
            parts.append(text(0, _y(tick / 100) + 14, f"{tick}%", "tick", "start"))
    parts.append(line(0, _y(0), 100, _y(1), "middle-line"))
    for b in bins:
        x = 100 * b.predicted
        parts.append('<g class="better">')
        parts.append(line(x, _y(b.low), x, _y(b.high), "whisker"))
        parts.append(f"{dot(x, _y(b.observed), 4 + 4 * (b.count / most) ** 0.5)}</g>")
    words = "; ".join(
        f"predicted {percent(b.predicted)}, observed {percent(b.observed)} of {count(b.count)}" for b in bins
    )
    return chart(TOP + SIDE + AXIS, title, f"{words or 'no cases'}.", identifier, parts)


def _y(share: float) -> float:
    return round(TOP + SIDE * (1 - share), 2)
