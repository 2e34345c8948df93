"""Images of several models and every scorer's verdicts on them, one task run per shard; what `evaluate` then finds."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prefect import task

from pipeline_lib import scoring
from pipeline_lib.core import resident
from pipeline_lib.core.code import recomputing
from pipeline_lib.core.config import BaseModel, EvaluateConfig
from pipeline_lib.core.store import Shard, open_dataset
from pipeline_lib.evaluation import scores
from pipeline_lib.evaluation.gate import Gate
from pipeline_lib.evaluation.scores import Judging
from pipeline_lib.evaluation.stage import find_leaks
from pipeline_lib.generation import stage as generate
from pipeline_lib.generation.prompts import load_prompts
from pipeline_lib.generation.stage import Painting
from tasks.downloads import hub_slot
from tasks.logs import working_on
from tasks.runners import log_shard
from tasks.settings import IO_TASK

Model = tuple[str | None, BaseModel]
"""URI of a model dataset, or None for the base itself; and its base."""


@task(name="paint-plan", **IO_TASK)
def plan_paintings(
    store: str,
    models: Sequence[Model],
    config: EvaluateConfig,
    scorers: Sequence[str],
    weights: str,
    pairs: Sequence[str],
    heldout: str | None,
    force: bool = False,
) -> tuple[list[Painting], str]:
    """Every model's painting, and the kind of device, "cpu" or "cuda": it decides the datasets.

    It runs where the shards will be painted. What would stop the evaluation afterwards is checked here: the gate, that
    the scorers are at hand, that not every prompt is one of the `pairs` that were trained on, and that models fit
    their bases. `force` is that of `code.recomputing`.
    """
    Gate(config.gate_average, config.gate_scorer)
    with hub_slot(weights):  # this downloads them
        scoring.identities(scorers, weights)
    prompts = load_prompts(config.prompts, config.num_prompts, open_dataset(heldout) if heldout else None)
    find_leaks(prompts, [open_dataset(uri) for uri in pairs])
    paintings = []
    for uri, base in models:
        with recomputing(force), hub_slot(base.mirror):
            paintings.append(generate.open_painting(store, open_dataset(uri) if uri else None, base, prompts, config))
            generate.check_paintable(paintings[-1])
    return paintings, resident.devices()[0].partition(":")[0]


@task(name="paint-shard", task_run_name="paint-shard-{index}", **IO_TASK)
def paint_shard(painting: Painting, index: int) -> Shard:
    """Paint one shard of a model's images, or find where an earlier run has left it."""
    started = time.monotonic()
    working_on(painting.writer.path())
    with resident.device_slot() as device:
        shard = generate.paint_shard(painting, index, device)
    log_shard(f"shard {index}: {shard.rows} images", started, device)
    return shard


@task(name="judge-plan", **IO_TASK)
def plan_judging(
    store: str,
    paintings: Sequence[Painting],
    shards: Sequence[Sequence[Shard]],
    scorers: Sequence[str],
    weights: str,
    force: bool = False,
) -> list[Judging]:
    """Commit every model's images; what is to be scored. It runs where it will be: the precision depends on it."""
    identities = scoring.identities(scorers, weights)
    with recomputing(force):
        return [
            scores.open_judging(store, p.writer.finished() or p.writer.commit(painted), p.prompts, identities)
            for p, painted in zip(paintings, shards, strict=True)
        ]


@task(name="judge-shard", task_run_name="judge-shard-{index}", **IO_TASK)
def judge_shard(judging: Judging, index: int, weights: str) -> Shard:
    """Score one shard of a model's images, or find where an earlier run has left its scores."""
    started = time.monotonic()
    working_on(judging.writer.path())
    with resident.device_slot() as device:
        shard = scores.judge_shard(judging, index, weights, device)
    log_shard(f"shard {index}: {shard.rows} images scored", started, device)
    return shard


@task(name="judge-finish", **IO_TASK)
def finish_judging(judgings: Sequence[Judging], shards: Sequence[Sequence[Shard]]) -> None:
    """Commit every model's scores."""
    for judging, scored in zip(judgings, shards, strict=True):
        if judging.writer.finished() is None:
            judging.writer.commit(scored)
