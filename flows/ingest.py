"""`ingest`: a source of preference pairs to checked pairs, unique images and quarantine."""

from __future__ import annotations

from prefect import flow

from pipeline_lib.config import override
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.ingest import ingest as ingest_task
from tasks.outcome import Outcome
from tasks.settings import store_url


@flow(name="ingest")
def ingest(
    preset: PresetName = "shapes",
    source: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    store: str | None = None,
) -> Outcome:
    """Read preference pairs in the Pick-a-Pic schema into the store.

    Args:
        preset: Settings to start from; empty fields below take its values.
        source: Folder of Parquet, s3://..., hf://datasets/<repo>@<revision>, or shapes://pairs.
        split: Split to read where the source has several.
        limit: At most this many source rows.
        store: Dataset store, a folder or fsspec URL; empty for the machine's default.
    """
    config = override(find_preset(preset).ingest, source=source, split=split, limit=limit)
    return ingest_task(store_url(store), config)
