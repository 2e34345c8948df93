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


def curve_chart(
    curve: Curve, identifier: str, behind: Curve | None = None, bounds: tuple[float, float] | None = None
) -> Markup:
    """Every logged value thin, their running mean bold. Needs at least one value.

    Args:
        identifier: unique in the page.
        behind: another run's curve, whose running mean is drawn dashed for comparison.
        bounds: lowest and highest value of the vertical axis, for charts side by side; None takes the curves' own.
    """
    points = list(zip(curve.steps, curve.values, strict=True))
    others = [] if behind is None else list(zip(behind.steps, behind.values, strict=True))
    values = curve.values
    low, high = bounds or (min(value for _, value in points + others), max(value for _, value in points + others))
    first, last = min(step for step, _ in points + others), max(step for step, _ in points + others)
    description = (
        f"{len(points)} values from step {points[0][0]} to {points[-1][0]}: first {values[0]:.4g}, last "
        f"{values[-1]:.4g}, lowest {min(values):.4g}, highest {max(values):.4g}."
    )
    if behind is not None:
        description += f" For comparison, {behind.label}: first {others[0][1]:.4g}, last {others[-1][1]:.4g}."
    height = HEIGHT + AXIS + TOP
    parts = [line(0, y, 100, y, "grid-line") for y in (TOP, TOP + HEIGHT / 2, TOP + HEIGHT)]
    paths = (
        [] if behind is None else [_path(others, _running_mean(behind.values), (first, last), (low, high), "behind")]
    )
    paths.append(_path(points, values, (first, last), (low, high), "curve raw"))
    paths.append(_path(points, _running_mean(values), (first, last), (low, high), "curve"))
    parts.append(
        f'<svg x="0" y="{TOP}" width="100%" height="{HEIGHT}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{''.join(paths)}</svg>"
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
