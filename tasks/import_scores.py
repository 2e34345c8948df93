"""Published scores from a file, as datasets like those of the score stage."""

from __future__ import annotations

import time

from prefect import task

from pipeline_lib.core.store import open_dataset
from pipeline_lib.scoring.published import import_scores as import_published
from tasks.outcome import Outcome, finish
from tasks.settings import IO_TASK


@task(name="import-scores", **IO_TASK)
def import_scores(
    store: str, pairs: str, file: str, scorers: list[str] | None, lower_is_better: list[str]
) -> dict[str, Outcome]:
    """Import the file's scores for these pairs; one outcome per scorer."""
    started = time.time()
    datasets = import_published(store, open_dataset(pairs), file, scorers, lower_is_better)
    return {name: finish(f"score-{name}", dataset, started) for name, dataset in datasets.items()}
