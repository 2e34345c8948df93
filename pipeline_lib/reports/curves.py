"""A metric of a training run against its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline_lib.reports.svg import AXIS, chart, line, text
from pipeline_lib.reports.words import short

HEIGHT = 150
TOP = 14


@dataclass(frozen=True)
class Curve:
    """A metric of the training run, one value per logged step."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]


def curve_chart(curve: Curve, identifier: str) -> Markup:
    """Every logged value thin, their running mean bold. Needs at least one value."""
    points = list(zip(curve.steps, curve.values, strict=True))
    values = curve.values
    low, high = min(values), max(values)
    first, last = points[0][0], points[-1][0]
    description = (
        f"{len(points)} values from step {first} to {last}: first {values[0]:.4g}, last {values[-1]:.4g}, "
        f"lowest {low:.4g}, highest {high:.4g}."
    )
    smooth = _running_mean(values)
    height = HEIGHT + AXIS + TOP
    parts = [line(0, y, 100, y, "grid-line") for y in (TOP, TOP + HEIGHT / 2, TOP + HEIGHT)]
    parts.append(
        f'<svg x="0" y="{TOP}" width="100%" height="{HEIGHT}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{_path(points, values, (first, last), (low, high), 'curve raw')}"
        f"{_path(points, smooth, (first, last), (low, high), 'curve')}</svg>"
    )
    parts.append(text(0, TOP - 3, short(high), "tick", "start"))
    parts.append(text(0, TOP - 4 + HEIGHT, short(low), "tick", "start"))
    parts.append(text(0, height - 7, f"step {first}", "tick", "start"))
    parts.append(text(100, height - 7, f"{last}", "tick", "end"))
    return chart(height, f"{curve.label} while training", description, identifier, parts)


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
