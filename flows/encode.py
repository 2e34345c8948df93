"""`encode`: latent and text-embedding caches for training."""

from __future__ import annotations

import time
from typing import Literal

from prefect import flow

from flows.ingest import ingest as ingest_flow
from pipeline_lib.chain.given import check_given
from pipeline_lib.core import resident
from pipeline_lib.core.code import forced, recomputing
from pipeline_lib.core.config import EncodeConfig
from pipeline_lib.core.overrides import override
from pipeline_lib.core.store import Dataset
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.base import base_model, checked_base
from tasks.encode import encode_shard, finish_encoding, plan_encoding
from tasks.fields import Count, Location, Pixels, SourceLocation, Text, Workers
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.progress import reporter
from tasks.run_names import flow_run_name
from tasks.runners import RunnerName, a_gpu_for_each_task, as_finished, task_runner
from tasks.settings import store_url
from tasks.values import EncodeSettings, IngestSettings


@flow(name="encode", flow_run_name=flow_run_name)
@described
def encode(
    preset: PresetName = "shapes",
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    ingest: IngestSettings | None = None,
    resolution: Pixels | None = None,
    aspect: Literal["crop", "pad", "stretch"] | None = None,
    flipped: bool | None = None,
    encode: EncodeSettings | None = None,
    pairs: Location | None = None,
    base: Location | None = None,
    runner: RunnerName = "thread",
    address: Location | None = None,
    max_workers: Workers | None = None,
    store: Location | None = None,
    force: bool = False,
) -> Outcome:
    """Cache VAE moments of every image and text embeddings of every prompt for the preset's base model.

    Args:
        resolution: Side of the square that images become, in pixels.
        aspect: How they become square: centre crop, black bars, or stretched.
        flipped: Also encode every image mirrored, for training with flips.
    """
    check_given(pairs=pairs, base=base)
    base = checked_base(preset, base)
    where = task_runner(runner, address)
    chosen = find_preset(preset)
    with recomputing(force):
        pairs = pairs or ingest_flow(preset, source, split, limit, ingest=ingest, store=store).uri
        config = override(chosen.encode, encode, resolution=resolution, aspect=aspect, flipped=flipped)
        return encode_shards.with_options(task_runner=where)(
            store_url(store), preset, base, config, pairs, runner, max_workers
        )


@flow(name="encode-shards", flow_run_name=flow_run_name)
def encode_shards(
    store: str,
    preset: PresetName,
    base: str | None,
    config: EncodeConfig,
    pairs: str,
    runner: RunnerName,
    max_workers: int | None,
) -> Outcome:
    """The part of `encode` that its task runner executes: a flow of its own, because a flow has one task runner."""
    started = time.time()
    model = base_model(preset, base)
    shards = []
    with a_gpu_for_each_task(runner):
        work = plan_encoding.submit(store, model, config, pairs, forced()).result()
        if not isinstance(work, Dataset):
            report = reporter("encode", "shards", work.writer.tables_there())
            room = len(resident.devices()) if runner == "thread" else work.shards  # Ray keeps its own queue
            results = as_finished(
                lambda index: encode_shard.submit(work, index), range(work.shards), max_workers or room
            )
            try:
                for _, shard in results:
                    shards.append(shard)
                    report(len(shards), work.shards)
            finally:
                resident.release()
    return finish_encoding(work, shards, started)
