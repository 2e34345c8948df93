"""What a terminal shows while the chain runs, and at its end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline_lib.chain import STAGES, Step
from pipeline_lib.chain.stages import Report
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
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total, completed=done, unit=_UNITS.get(stage, ""))
            progress.update(bars[stage], completed=done, total=total)

        yield report


def _lines(console: Console) -> Report:
    last: dict[str, float] = {}

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - last.get(stage, 0.0) >= LINES_SECONDS:
            last[stage] = now
            console.print(f"{stage}: {done:,} of {total:,} {_UNITS.get(stage, '')}", highlight=False)

    return report


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
