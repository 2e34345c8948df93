"""How a number came about: what was there, what each step took away or added, what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from pipeline_lib.reports.svg import chart, line, rect, text
from pipeline_lib.reports.words import count

ROW = 46
BAR = 12


@dataclass(frozen=True)
class Step:
    """One change of the count; negative where rows are dropped."""

    label: str
    change: int


def waterfall_chart(
    start: int, steps: Sequence[Step], title: str, identifier: str, first: str = "Start", last: str = "Left"
) -> Markup:
    """Bars from `start` over every step to the end; the bars of steps hang where the count stood before them.

    Args:
        start: the count before the first step.
        identifier: unique in the page.
        first, last: labels of the two whole bars.
    """
    levels = list(accumulate([start, *(step.change for step in steps)]))
    most = max(*levels, 1)
    rows = [(first, count(start), 0, start, "whole")]
    for step, before, after in zip(steps, levels, levels[1:], strict=False):
        sign = "+" if step.change > 0 else "−" if step.change < 0 else ""
        kind = "gain" if step.change > 0 else "loss"
        rows.append((step.label, f"{sign}{count(abs(step.change))}", min(before, after), max(before, after), kind))
    rows.append((last, count(levels[-1]), 0, levels[-1], "whole"))
    parts = []
    for place, (label, value, low, high, kind) in enumerate(rows):
        top = ROW * place
        if place:
            parts.append(line(0, top, 100, top, "row-line"))
        parts.append(text(0, top + 20, label, "label", "start"))
        parts.append(text(100, top + 20, value, "label", "end"))
        parts.append(rect(0, top + 27, 100, BAR, "track"))
        if high > low:
            parts.append(rect(100 * low / most, top + 27, max(100 * (high - low) / most, 0.3), BAR, kind))
    words = "; ".join(f"{label}: {value}" for label, value, *_ in rows)
    return chart(ROW * len(rows), title, f"{words}.", identifier, parts)
