"""A sweep's settings as one standalone SVG file, for documents that show pictures and no pages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from markupsafe import Markup

from pipeline_lib.core.registry import unknown_name
from pipeline_lib.reports import render
from pipeline_lib.reports.spread import spread_drawing
from pipeline_lib.sweeps.measured import null_of, spreads_of
from pipeline_lib.sweeps.wording import level, measure_label

WIDTH = 640
"""Pixels. Text keeps its size beside this; a phone shows the picture smaller."""
MARGIN = 24
TOP = 76
"""Height of the strip with the title and the legend."""


def figure(report: Mapping[str, Any], measure: str, title: str | None = None) -> str:
    """Settings with their 95% intervals and training seeds, by one measure.

    The picture brings its own background and follows the reader's dark mode. Same report, same bytes.

    Args:
        report: of a sweep's `report.json` the parts title, reference, measures and settings (name, estimates).
        measure: one of its measures.
        title: over the picture; the report's unless given.

    Raises:
        UnknownNameError: the report has no such measure, or no setting has a value for it.
    """
    known = {name for setting in report["settings"] for name in setting["estimates"]} & set(report["measures"])
    rows = spreads_of(report, measure) if measure in known else []
    if not rows:
        raise unknown_name("measure", measure, sorted(known))
    null = null_of(report, measure)
    drawn = spread_drawing(rows, partial(level, measure, share=bool(report["measures"][measure]["share"])), null)
    legend = "Dots: estimates with 95% intervals"
    if any(row.runs for row in rows):
        legend += "; rings: training seeds"
    if any(row.strong for row in rows):
        legend += "; dashed: the reference"
    return render(
        __package__,
        "figure.svg.j2",
        title=title or report["title"],
        measure=measure_label(measure),
        legend=legend,
        words=drawn.words,
        parts=Markup("".join(drawn.parts)),
        width=WIDTH,
        inner=WIDTH - 2 * MARGIN,
        margin=MARGIN,
        top=TOP,
        height=round(drawn.height) + TOP + 14,
        tall=round(drawn.height),
    )
