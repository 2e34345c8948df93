"""Self-training: a trained model as a further scorer of pairs."""

from __future__ import annotations

import time

from prefect import task

from pipeline_lib.core.config import JudgeConfig
from pipeline_lib.core.store import open_dataset
from tasks.outcome import Outcome, finish
from tasks.progress import reporter
from tasks.settings import IO_TASK


@task(name="self-training", **IO_TASK)
def self_training(store: str, models: list[str], encoded: str, pairs: str, config: JudgeConfig) -> Outcome:
    """Judge pairs by trained models; the result is the score dataset of "self-training" that recipes read."""
    from pipeline_lib.training.implicit import judge_pairs  # loads torch

    started = time.time()
    opened = [open_dataset(uri) for uri in models]
    progress = reporter("self-training", "pairs")
    dataset = judge_pairs(store, opened, open_dataset(encoded), open_dataset(pairs), config, progress)
    return finish("self-training", dataset, started)
