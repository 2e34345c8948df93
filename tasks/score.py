"""Score stage: every unique image by every reward model, one task run per shard of images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from prefect import task

from pipeline_lib import scoring
from pipeline_lib.core import resident
from pipeline_lib.core.code import recomputing
from pipeline_lib.core.store import Shard, open_dataset
from pipeline_lib.scoring.resident import resident_scorers
from pipeline_lib.scoring.stage import Work
from tasks.downloads import hub_slot
from tasks.logs import working_on
from tasks.outcome import Outcome, finish
from tasks.runners import log_shard
from tasks.settings import IO_TASK


@task(name="score-plan", **IO_TASK)
def plan_scores(
    store: str, scorers: list[str], pairs: str, weights: str, force: bool = False
) -> tuple[list[Work], list[Work], int]:
    """The scorers' datasets, those of them that are unfinished, and the number of image shards.

    It runs where the shards will be scored: the precision, and with it the dataset, depends on the device. `force` is
    that of `code.recomputing`.
    """
    ingested = open_dataset(pairs)
    with recomputing(force), hub_slot(weights):  # this downloads them
        work = scoring.open_work(store, scorers, ingested, weights)
    missing = [item for item in work if item.writer.finished() is None]
    return work, missing, len(ingested.tables("images"))


@task(name="score-shard", task_run_name="score-shard-{index}", **IO_TASK)
def score_shard(work: list[Work], pairs: str, weights: str, index: int) -> dict[str, list[Shard]]:
    """Score one shard of images; scorer -> files written, or found where an earlier run has left them."""
    started, ingested = time.monotonic(), open_dataset(pairs)
    working_on(ingested.path())
    with resident.device_slot() as device:
        loaded = resident_scorers({item.scorer: item.identity for item in work}, weights, device)
        written = scoring.score_shard(work, loaded, ingested, index)
    log_shard(f"shard {index}: scored", started, device)
    return written


@task(name="score-finish", **IO_TASK)
def finish_scores(work: list[Work], shards: Mapping[str, Sequence[Shard]], started: float) -> dict[str, Outcome]:
    """Commit the datasets that are not there yet; one outcome per scorer."""
    outcomes = {}
    for item in work:
        dataset = item.writer.finished() or item.writer.commit(shards[item.scorer])
        outcomes[item.scorer] = finish(f"score-{item.scorer}", dataset, started)
    return outcomes
