"""A horizontal axis that fits what is drawn on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ROOM = 0.04
"""Space at both ends, as a share of what is drawn."""
FAR = 2.0
"""A mark further from the values than this times their spread is left out: the values would be crowded together."""
MOST = 5
"""Ticks at most: their numbers must not touch in the width of a phone."""


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with round numbers in between."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where a value lies, in percent of the axis."""
        return 100 * (value - self.low) / (self.high - self.low)

    def holds(self, value: float) -> bool:
        """Whether the value lies on the axis."""
        return self.low <= value <= self.high


def fitted(values: Sequence[float], mark: float | None = None) -> Axis:
    """The axis of the values (at least one), with `mark` on it unless it is far away."""
    low, high = min(values), max(values)
    if mark is not None and max(low - mark, mark - high) <= FAR * (high - low):
        low, high = min(low, mark), max(high, mark)
    room = ROOM * (high - low) or 0.1 * abs(high) or 0.1
    low, high = low - room, high + room
    return Axis(low, high, _ticks(low, high))


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten: the finest step that has at most MOST of them."""
    least = (high - low) / MOST
    power = math.floor(math.log10(least))
    for factor in (1, 2, 5, 10, 20):
        step = factor * 10.0**power
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first < MOST:
            break
    # Rounded: 3 * 0.1 is not 0.3.
    return tuple(round(number * step, 12 - power) for number in range(first, last + 1))
