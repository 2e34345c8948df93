"""`ingest`: a source of preference pairs to checked pairs, unique images and quarantine."""

from __future__ import annotations

import time
from collections import deque

from prefect import flow
from prefect.futures import PrefectFuture

from pipeline_lib.config import override, require
from pipeline_lib.ingest import Unit
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.ingest import finish_ingest, ingest_unit, plan_ingest, without_sources
from tasks.outcome import Outcome
from tasks.progress import reporter
from tasks.settings import store_url


@flow(name="ingest")
def ingest(
    preset: PresetName = "shapes",
    source: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    models: list[str] | None = None,
    workers: int = 2,
    store: str | None = None,
) -> Outcome:
    """Read preference pairs in the Pick-a-Pic schema into the store.

    Args:
        preset: Settings to start from; empty fields below take its values.
        source: Folder of Parquet, s3://..., hf://datasets/<repo>@<revision>, or shapes://pairs.
        split: Split to read where the source has several.
        limit: At most this many source rows.
        models: Only pairs whose two images are by generators of these names.
        workers: Units of work (up to 256 MB of source) in flight at a time; memory grows with it.
        store: Dataset store, a folder or fsspec URL; empty for the machine's default.
    """
    require(workers > 0, f"workers is {workers}.", "Give at least 1.")
    started = time.time()
    chosen = tuple(models) if models else None
    config = override(find_preset(preset).ingest, source=source, split=split, limit=limit, models=chosen)
    job, units, done = plan_ingest(store_url(store), config)
    if units:
        report = reporter("ingest", "rows")
        total = sum(unit.rows for unit in units)
        slim = without_sources(job)
        waiting: deque[tuple[Unit, PrefectFuture[None]]] = deque()
        rows = size = 0
        for unit in [*units, *[None] * workers]:
            if waiting and (unit is None or len(waiting) == workers):
                finished, future = waiting.popleft()
                future.result()
                rows, size = rows + finished.rows, size + finished.bytes
                report(rows, total, size)
            if unit is not None:
                waiting.append((unit, ingest_unit.submit(slim, unit)))
    return finish_ingest(job, units, done, started)
