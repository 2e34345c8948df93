"""What a terminal shows while the chain runs, and at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from pipeline_lib.chain import STAGES, Step
from pipeline_lib.chain.stages import Report
from pipeline_lib.core.progress import Pace, duration_text, rate_text
from pipeline_lib.core.store import Dataset

LINES_SECONDS = 10.0
"""Between lines where nobody watches a terminal."""
_UNITS = {stage.name: stage.unit for stage in STAGES}


@contextmanager
def shown(console: Console) -> Iterator[Report]:
    """A `Report` that draws a bar for each stage, or writes a line now and then where this is no terminal.

    A bar's clock starts with the first report: what a resumed run found done counts as done and not as speed.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[pace]}"),
    )
    bars: dict[str, TaskID] = {}
    pace = paces()
    with Progress(*columns, console=console) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total, unit=_UNITS.get(stage, ""))
            progress.update(bars[stage], completed=done, total=total, pace=pace(stage, done, total))

        yield report


def _lines(console: Console) -> Report:
    last: dict[str, float] = {}
    pace = paces()

    def report(stage: str, done: int, total: int) -> None:
        now, speed = time.monotonic(), pace(stage, done, total)
        if done >= total or now - last.get(stage, 0.0) >= LINES_SECONDS:
            last[stage] = now
            words = f"{stage}: {done:,} of {total:,} {_UNITS.get(stage, '')}"
            console.print(f"{words}, {speed}" if speed else words, highlight=False)

    return report


def paces(clock: Callable[[], float] = time.monotonic) -> Callable[[str, int, int], str]:
    """A function that takes a stage's progress and says its rate and the time left, "" where it cannot tell."""
    known: dict[str, Pace] = {}

    def pace(stage: str, done: int, total: int) -> str:
        now = clock()
        one = known.setdefault(stage, Pace(now, there=done))
        one.report(now, done)
        seconds = one.seconds_left(total)
        if seconds is None:
            return ""
        return f"{rate_text(one.rate(), _UNITS.get(stage, ''))}, {duration_text(seconds)} left"

    return pace


def steps_table(steps: Sequence[Step]) -> Table:
    """What became of each stage: whether it ran, how long it took, its datasets."""
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "", "seconds", "dataset", "rows"):
        table.add_column(name, justify="right" if name in ("seconds", "rows") else "left", no_wrap=name != "dataset")
    before: list[Dataset] = []
    for step in steps:
        if all(dataset in before for dataset in step.datasets()):
            continue  # it had nothing to add
        before += step.datasets()
        first = True
        for dataset in step.datasets():
            rows = sum(shard.rows for shard in dataset.shards)
            said = (step.stage, "ran" if step.ran else "found", f"{step.seconds:.1f}") if first else ("", "", "")
            table.add_row(*said, dataset.path(), f"{rows:,}")
            first = False
    return table
