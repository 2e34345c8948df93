"""`ingest`: a source of preference pairs to checked pairs, unique images and quarantine."""

from __future__ import annotations

import time

from prefect import flow

from pipeline_lib.core.code import recomputing
from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.overrides import override
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.fields import Count, Location, Names, SourceLocation, Text, Workers
from tasks.ingest import finish_ingest, ingest_unit, plan_ingest, without_sources
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.progress import reporter
from tasks.run_names import flow_run_name
from tasks.runners import RunnerName, as_finished, task_runner
from tasks.settings import store_url
from tasks.values import IngestSettings


@flow(name="ingest", flow_run_name=flow_run_name)
@described
def ingest(
    preset: PresetName = "shapes",
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    ingest: IngestSettings | None = None,
    models: Names | None = None,
    workers: Workers | None = None,
    runner: RunnerName = "thread",
    address: Location | None = None,
    store: Location | None = None,
    force: bool = False,
) -> Outcome:
    """Read preference pairs in the Pick-a-Pic schema into the store.

    Args:
        models: Only pairs whose two images are by generators of these names.
        workers: Units of work (up to 256 MB of source) in flight at a time; memory grows with it. Empty for 2
            (thread), or all that the cluster has room for (ray).
        runner: thread reads in this process; ray on the workers of a Ray cluster, which must reach source and store.
    """
    where = task_runner(runner, address)
    flat = {"source": source, "split": split, "limit": limit, "models": models or None}
    config = override(find_preset(preset).ingest, ingest, **flat)
    with recomputing(force):
        return ingest_units.with_options(task_runner=where)(store_url(store), config, runner, workers)


@flow(name="ingest-units", flow_run_name=flow_run_name)
def ingest_units(store: str, config: IngestConfig, runner: RunnerName, workers: int | None) -> Outcome:
    """The part of `ingest` that its task runner executes: a flow of its own, because a flow has one task runner."""
    started = time.time()
    job, units, done = plan_ingest(store, config)
    if units:
        report = reporter("ingest", "rows")
        total = sum(unit.rows for unit in units)
        slim = without_sources(job)
        rows = size = 0
        room = workers or (2 if runner == "thread" else len(units))  # Ray keeps its own queue
        for unit, _ in as_finished(lambda unit: ingest_unit.submit(slim, unit), units, room):
            rows, size = rows + unit.rows, size + unit.bytes
            report(rows, total, size)
    return finish_ingest(job, units, done, started)
