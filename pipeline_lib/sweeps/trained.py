"""Training curves of a sweep's settings as small multiples, each with the reference's for comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline_lib.reports import Curve, curve_chart

CURVES = {"implicit_accuracy": "Implicit accuracy", "loss": "Loss"}
"""Metrics that are drawn, with their titles."""
POINTS = 160
"""Values of a curve that are drawn: more than a panel on a phone has pixels to tell apart."""


def training(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A part for each metric that any setting has: `title`, `reference` and `panels` of a setting and its chart.

    Accuracies share one vertical axis. Losses are on one scale only where the method is the same: they share the axis
    with, and are compared to, settings of their own method.
    """
    methods = {setting["name"]: setting["method"] for setting in report["settings"]}
    parts = []
    for place, (metric, title) in enumerate(CURVES.items()):
        curves: dict[str, Curve] = {}
        for name in methods:
            points = thinned(finite(report["curves"].get(name, {}).get(metric, ())))
            if points:
                curves[name] = Curve(f"{title}, {name}", [step for step, _ in points], [value for _, value in points])
        panels = []
        reference = report["reference"]
        for number, (name, curve) in enumerate(curves.items()):
            alike = [key for key in curves if metric != "loss" or methods[key] == methods[name]]
            behind = curves[reference] if reference in alike and reference != name else None
            values = [value for key in alike for value in curves[key].values]
            bounds = (min(values), max(values))
            panels.append((name, curve_chart(curve, f"curve-{place}-{number}", behind, bounds)))
        if panels:
            parts.append({"title": title, "reference": reference if reference in curves else None, "panels": panels})
    return parts


def finite(points: Sequence[Sequence[float | None]]) -> list[tuple[int, float]]:
    """Points with a value."""
    return [
        (int(step), value) for step, value in points if step is not None and value is not None and math.isfinite(value)
    ]


def thinned(points: Sequence[tuple[int, float]], most: int = POINTS) -> list[tuple[int, float]]:
    """At most `most` points: means of equally many neighbours, at the last one's step."""
    reach = -(-len(points) // most)
    if reach <= 1:
        return list(points)
    blocks = [points[start : start + reach] for start in range(0, len(points), reach)]
    return [(block[-1][0], math.fsum(value for _, value in block) / len(block)) for block in blocks]
