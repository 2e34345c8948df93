"""Stages of a run on a terminal: a bar each; where nobody watches, a line now and then."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from deploy.flow_runs import ENDED
from deploy.stages import NAMES, Stage

QUARTER = 25.0
QUIET_S = 15.0
"""Between two lines about the same stage."""


def shown(console: Console) -> Bars | Lines:
    """What suits the console; use it in a `with`, and give it the stages as often as you like."""
    return Bars(console) if console.is_terminal else Lines()


class Bars:
    """One bar per stage, with what it reports: the rate and the time left."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[seconds]:>6}"),
            TextColumn("{task.fields[words]}", style="dim", table_column=Column(no_wrap=True, overflow="ellipsis")),
        )
        self.progress = Progress(*columns, console=console)
        self.tasks: dict[str, TaskID] = {
            name: self.progress.add_task(name, total=100.0, seconds="", words="") for name in NAMES
        }

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.progress.stop()

    def show(self, stages: Sequence[Stage]) -> None:
        """Move the bars."""
        for one in stages:
            # Without a total the bar pulses: the stage is at work and has not said how far it is.
            unknown = one.state == "RUNNING" and not one.words
            done = 100.0 if one.state == "COMPLETED" else one.percent
            self.progress.update(
                self.tasks[one.name],
                total=None if unknown else 100.0,
                completed=done,
                seconds=f"{one.seconds:.0f} s" if one.state else "",
                words=one.words if one.state == "RUNNING" else one.state.lower(),
            )


class Lines:
    """A line when a stage has ended, and one for each quarter of long work."""

    def __init__(self) -> None:
        self.said: dict[str, tuple[str, int]] = {}
        """Of every stage the state and the quarter that the last line told."""
        self.told = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, stages: Sequence[Stage]) -> None:
        """Tell what is new."""
        for one in stages:
            state, quarter = self.said.get(one.name, ("", 0))
            if one.state in ENDED and one.state != state:
                self._say(one, f"{one.name:<9} {one.seconds:>6.1f} s  {one.state.lower()}")
            elif one.percent // QUARTER != quarter and time.monotonic() - self.told >= QUIET_S:
                self._say(one, f"{one.name:<9} {one.seconds:>6.1f} s  {one.words}")

    def _say(self, stage: Stage, line: str) -> None:
        self.said[stage.name] = (stage.state, int(stage.percent // QUARTER))
        self.told = time.monotonic()
        print(line, flush=True)
