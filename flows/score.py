"""`score`: every unique image of the pairs by every reward model, once."""

from __future__ import annotations

import time

from prefect import flow

from flows.ingest import ingest as ingest_flow
from pipeline_lib.chain.given import check_given
from pipeline_lib.core import resident
from pipeline_lib.core.code import forced, recomputing
from pipeline_lib.core.store import Shard
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.agreement import agreement
from tasks.fields import Count, Location, ScorerNames, SourceLocation, Text, Workers
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.progress import reporter
from tasks.run_names import flow_run_name
from tasks.runners import RunnerName, a_gpu_for_each_task, as_finished, task_runner
from tasks.score import finish_scores, plan_scores, score_shard
from tasks.settings import store_url
from tasks.values import IngestSettings


@flow(name="score", flow_run_name=flow_run_name)
@described
def score(
    preset: PresetName = "shapes",
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    ingest: IngestSettings | None = None,
    scorers: ScorerNames | None = None,
    weights: Location | None = None,
    runner: RunnerName = "thread",
    address: Location | None = None,
    max_workers: Workers | None = None,
    pairs: Location | None = None,
    store: Location | None = None,
    force: bool = False,
) -> dict[str, Outcome]:
    """Score images with reward models; each scorer's table is a dataset of its own. Several scorers are then compared.

    Args:
        scorers: Reward models to run: clip, pickscore, hpsv2, aesthetic, imagereward.
    """
    check_given(scorers=scorers, weights=weights, pairs=pairs)
    chosen = find_preset(preset)
    where = task_runner(runner, address)
    with recomputing(force):
        pairs = pairs or ingest_flow(preset, source, split, limit, ingest=ingest, store=store).uri
        names, mirror = scorers or list(chosen.scorers), weights or chosen.weights
        root = store_url(store)
        outcomes = score_shards.with_options(task_runner=where)(root, names, pairs, mirror, runner, max_workers)
        if len(outcomes) > 1:
            agreement(root, pairs, {name: outcome.uri for name, outcome in outcomes.items()})
        return outcomes


@flow(name="score-shards", flow_run_name=flow_run_name)
def score_shards(
    store: str, scorers: list[str], pairs: str, weights: str, runner: RunnerName, max_workers: int | None
) -> dict[str, Outcome]:
    """The part of `score` that its task runner executes: a flow of its own, because a flow has one task runner."""
    started = time.time()
    shards: dict[str, list[Shard]] = {name: [] for name in scorers}
    with a_gpu_for_each_task(runner):
        work, missing, total = plan_scores.submit(store, scorers, pairs, weights, forced()).result()
        if missing:
            report = reporter("score", "shards", min(item.writer.tables_there() for item in missing))
            room = len(resident.devices()) if runner == "thread" else total  # Ray keeps its own queue
            results = as_finished(
                lambda index: score_shard.submit(missing, pairs, weights, index), range(total), max_workers or room
            )
            try:
                for done, (_, written) in enumerate(results, start=1):
                    for name, files in written.items():
                        shards[name] += files
                    report(done, total)
            finally:
                resident.release()
    return finish_scores(work, shards, started)
