"""Score stage: every unique image by every reward model."""

from __future__ import annotations

import time

from prefect import task

from pipeline_lib import scoring
from pipeline_lib.store import open_dataset
from tasks.outcome import Outcome, finish
from tasks.progress import reporter
from tasks.settings import IO_TASK


@task(name="score", **IO_TASK)
def score(store: str, pairs: str, scorers: list[str], weights: str) -> dict[str, Outcome]:
    """Score in one pass over the images with all `scorers` that lack a dataset; one outcome per scorer."""
    started = time.time()
    datasets = scoring.score(store, scorers, open_dataset(pairs), weights, reporter("score", "shards"))
    return {name: finish(f"score-{name}", dataset, started) for name, dataset in datasets.items()}
