"""`encode`: latent and text-embedding caches for training."""

from __future__ import annotations

import time
from typing import Literal

from prefect import flow

from flows.ingest import ingest
from pipeline_lib.chain.given import check_given
from pipeline_lib.core import resident
from pipeline_lib.core.code import forced, recomputing
from pipeline_lib.core.config import EncodeConfig, override
from pipeline_lib.core.store import Dataset
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.base import base_model, checked_base
from tasks.encode import encode_shard, finish_encoding, plan_encoding
from tasks.fields import Count, Location, Pixels, SourceLocation, Text, Workers
from tasks.outcome import Outcome
from tasks.progress import reporter
from tasks.run_names import flow_run_name
from tasks.runners import RunnerName, a_gpu_for_each_task, as_finished, task_runner
from tasks.settings import store_url


@flow(name="encode", flow_run_name=flow_run_name)
def encode(
    preset: PresetName = "shapes",
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    resolution: Pixels | None = None,
    aspect: Literal["crop", "pad", "stretch"] | None = None,
    flipped: bool | None = None,
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
        preset: Base model and settings.
        source: Source of pairs, when `pairs` is empty.
        split: Split to read, when `pairs` is empty.
        limit: At most this many source rows, when `pairs` is empty.
        resolution: Side of the square that images become, in pixels.
        aspect: How they become square: centre crop, black bars, or stretched.
        flipped: Also encode every image mirrored, for training with flips.
        pairs: URI of an ingest dataset; empty runs ingest.
        base: Base model of the same family instead of the preset's: <org>/<name>@<revision>, a local folder,
            or an MLflow model URI such as models:/balanced-sdxl@champion.
        runner: thread encodes in this process; ray on the workers of a Ray cluster, a GPU each where there are GPUs.
        address: Ray cluster: host:port or auto on one of its nodes, ray://host:10001 from outside; empty starts one
            on this machine.
        max_workers: Shards encoded at a time; empty for one per GPU (thread), or all that the cluster has room for
            (ray).
        store: Dataset store; empty for the machine's default.
        force: Make again what other code made; the log says so where it is used. What is there stays.
    """
    check_given(pairs=pairs, base=base)
    base = checked_base(preset, base)
    where = task_runner(runner, address)
    chosen = find_preset(preset)
    with recomputing(force):
        pairs = pairs or ingest(preset, source, split, limit, store=store).uri
        config = override(chosen.encode, resolution=resolution, aspect=aspect, flipped=flipped)
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
