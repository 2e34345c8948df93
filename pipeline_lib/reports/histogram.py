"""How values are spread."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipeline_lib.reports.svg import AXIS, anchor, chart, line, rect, text
from pipeline_lib.reports.words import count, short

HEIGHT = 96
GAP = 0.25
"""Space between two bars, in percent of the chart's width."""


def histogram_chart(
    edges: Sequence[float], counts: Sequence[int], title: str, identifier: str, mark: float | None = None
) -> Markup:
    """Bars of `counts[i]` values between `edges[i]` and `edges[i + 1]`; the width of a bar follows its edges.

    Args:
        edges: ascending, one more than counts; the first below the last.
        identifier: unique in the page.
        mark: a value inside the edges that gets a vertical line (zero, one half).

    Raises:
        ValueError: edges and counts do not fit each other.
    """
    if len(edges) != len(counts) + 1 or not edges[0] < edges[-1]:
        raise ValueError(f"{len(edges)} edges for {len(counts)} bars, from {edges[0]} to {edges[-1]}")
    span = edges[-1] - edges[0]
    places = [100 * (edge - edges[0]) / span for edge in edges]
    most = max(counts) or 1
    parts = [line(0, HEIGHT, 100, HEIGHT, "row-line")]
    for left, right, amount in zip(places, places[1:], counts, strict=False):
        if amount:
            tall = max(1.0, HEIGHT * amount / most)  # a single value among a million is still seen
            parts.append(rect(left, HEIGHT - tall, max(right - left - GAP, GAP), tall, "bin"))
    ticks = [edges[0], edges[-1]]
    if mark is not None and edges[0] <= mark <= edges[-1]:
        place = 100 * (mark - edges[0]) / span
        parts.append(line(place, 0, place, HEIGHT, "middle-line"))
        if 15 < place < 85:  # else it would run into the numbers at the ends
            ticks.append(mark)
    for tick in ticks:
        place = 100 * (tick - edges[0]) / span
        parts.append(text(place, HEIGHT + AXIS - 7, short(tick), "tick", anchor(place)))
    return chart(HEIGHT + AXIS, title, _words(edges, counts), identifier, parts)


def _words(edges: Sequence[float], counts: Sequence[int]) -> str:
    total = sum(counts)
    peak = max(range(len(counts)), key=lambda i: counts[i])
    return (
        f"{count(total)} values from {short(edges[0])} to {short(edges[-1])}; most, {count(counts[peak])}, "
        f"between {short(edges[peak])} and {short(edges[peak + 1])}."
    )
