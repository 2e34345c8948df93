"""The part of evaluations that a task runner executes: models paint and scorers judge, a task for each shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prefect import flow
from prefect.futures import PrefectFuture

from pipeline_lib.core import resident
from pipeline_lib.core.code import forced
from pipeline_lib.core.config import EvaluateConfig
from pipeline_lib.core.store import Shard
from pipeline_lib.generation.painter import workers
from tasks.fields import Location
from tasks.paint import Model, finish_judging, judge_shard, paint_shard, plan_judging, plan_paintings
from tasks.progress import Report, reporter
from tasks.run_names import flow_run_name
from tasks.runners import RunnerName, a_gpu_for_each_task, as_finished


@flow(name="paint-and-judge", flow_run_name=flow_run_name)
def paint_and_judge(
    store: str,
    models: Sequence[Model],
    config: EvaluateConfig,
    scorers: Sequence[str],
    weights: str,
    pairs: Sequence[str] = (),
    heldout: Location | None = None,
    runner: RunnerName = "thread",
    max_workers: int | None = None,
) -> str:
    """Images of all models and their scores, in the store; returns the kind of device that they depend on.

    A flow of its own, because a flow has one task runner.
    """
    with a_gpu_for_each_task(runner):
        paintings, device = plan_paintings.submit(
            store, models, config, scorers, weights, pairs, heldout, forced()
        ).result()
        try:
            room = max_workers or (workers() if runner == "thread" else None)
            painted = _shards(
                lambda model, index: paint_shard.submit(paintings[model], index),
                [0 if painting.writer.finished() else len(painting.shards()) for painting in paintings],
                [painting.images for painting in paintings],
                lambda: reporter("paint", "images"),
                room,
            )
            judgings = plan_judging.submit(store, paintings, painted, scorers, weights, forced()).result()
            room = max_workers or (len(resident.devices()) if runner == "thread" else None)
            judged = _shards(
                lambda model, index: judge_shard.submit(judgings[model], index, weights),
                [0 if judging.writer.finished() else len(judging.images.tables()) for judging in judgings],
                [painting.images for painting in paintings],
                lambda: reporter("judge", "images"),
                room,
            )
            finish_judging(judgings, judged)
        finally:
            resident.release()
    return device


def _shards(
    submit: Callable[[int, int], PrefectFuture[Shard]],
    counts: Sequence[int],
    images: Sequence[int],
    report: Callable[[], Report],
    room: int | None,
) -> list[list[Shard]]:
    """The shards of every model, by `submit(model, index)` for each index below the model's count; model by model, so
    that a worker loads each once. `room` None: Ray keeps a queue of its own."""
    found: list[list[Shard]] = [[] for _ in counts]
    jobs = [(model, index) for model, count in enumerate(counts) for index in range(count)]
    if jobs:
        done, total, tell = 0, sum(n for n, count in zip(images, counts, strict=True) if count), report()
        for (model, _), shard in as_finished(lambda job: submit(*job), jobs, room or len(jobs)):
            found[model].append(shard)
            done += shard.rows
            tell(done, total)
    return found
