"""How fast work goes and how long it will still take, from reports of what is done. The clock is the caller's.

A rate is that of the last half of the time since work began: work that ends in bursts has several of them in it, and
what was faster or slower before, or was there already, does not count for long.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KEPT = 200
"""About how many reports stay in memory: one nearer to the one before than that share of the time is dropped."""
PERIODS = (("s", 1), ("min", 60), ("h", 3600))


@dataclass(frozen=True)
class Mark:
    """A report: at `time`, in seconds of any clock, so many units and bytes were `done`."""

    time: float
    done: int = 0
    size: int = 0


@dataclass
class Pace:
    """Reports of one piece of work.

    Attributes:
        started: when work began, on the clock of the reports.
        there: units that an earlier run had done. The clock starts when the first unit beyond them is at work.
    """

    started: float
    there: int = 0
    marks: list[Mark] = field(default_factory=list)
    """From before the last half of the time on, oldest first; the last is the present."""

    def __post_init__(self) -> None:
        self.marks = [Mark(self.started)]

    def report(self, time: float, done: int, size: int = 0) -> None:
        """Take in what is done at `time`. A clock that goes back is that of a process that has started anew."""
        new = Mark(time, done, size)
        if done <= self.there or time < self.marks[-1].time:
            self.started, self.marks = time, [new]
            return
        elapsed = time - self.started
        if len(self.marks) > 2 and self.marks[-1].time - self.marks[-2].time < elapsed / KEPT:
            self.marks.pop()
        self.marks.append(new)
        while len(self.marks) > 2 and self.marks[1].time <= self.started + elapsed / 2:
            self.marks.pop(0)

    def rate(self) -> float:
        """Units a second; 0 while nothing is known."""
        return (self.marks[-1].done - self.marks[0].done) / self._seconds()

    def bytes_rate(self) -> float:
        """Bytes a second."""
        return (self.marks[-1].size - self.marks[0].size) / self._seconds()

    def seconds_left(self, total: int) -> float | None:
        """How long the rest will take at this rate; None while nothing is known, or nothing is left."""
        rest, rate = total - self.marks[-1].done, self.rate()
        return rest / rate if rest > 0 and rate > 0 else None

    def _seconds(self) -> float:
        return max(self.marks[-1].time - self.marks[0].time, 1e-9)


def rate_text(rate: float, unit: str) -> str:
    """`rate` units a second, by the minute or the hour where that is less than one: 12.5 images/s, 2.4 models/min."""
    per, seconds = next((p for p in PERIODS if rate * p[1] >= 1), PERIODS[-1]) if rate else PERIODS[0]
    return f"{rate * seconds:.1f} {unit}/{per}"


def duration_text(seconds: float) -> str:
    """A time to read: 40 s, 12 min, 3.5 h, 25 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"
