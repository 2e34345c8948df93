"""Encode stage: VAE moments of every image and text embeddings of every prompt, one task run per shard."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prefect import task

from pipeline_lib.core import resident
from pipeline_lib.core.code import recomputing
from pipeline_lib.core.config import BaseModel, EncodeConfig
from pipeline_lib.core.store import Dataset, Shard, open_dataset
from pipeline_lib.encoding.plan import Encoding, open_encoding
from tasks.downloads import hub_slot
from tasks.logs import working_on
from tasks.outcome import Outcome, finish
from tasks.runners import log_shard
from tasks.settings import IO_TASK


@task(name="encode-plan", **IO_TASK)
def plan_encoding(
    store: str, model: BaseModel, config: EncodeConfig, pairs: str, force: bool = False
) -> Encoding | Dataset:
    """What is to be encoded, or the dataset where it is there already; `force` as of `code.recomputing`."""
    with recomputing(force), hub_slot(model.mirror):  # this downloads the encoders
        return open_encoding(store, model, config, open_dataset(pairs))


@task(name="encode-shard", task_run_name="encode-shard-{index}", **IO_TASK)
def encode_shard(work: Encoding, index: int) -> Shard:
    """Encode one shard of images or prompts, or find where an earlier run has left it."""
    from pipeline_lib.encoding import stage as encoding  # loads torch

    started = time.monotonic()
    working_on(work.writer.path())
    with resident.device_slot() as device:
        shard = encoding.encode_shard(work, index, device)
    log_shard(f"shard {index}: {shard.rows} rows", started, device)
    return shard


@task(name="encode-finish", **IO_TASK)
def finish_encoding(work: Encoding | Dataset, shards: Sequence[Shard], started: float) -> Outcome:
    """Commit what is not there yet, and publish what came of it."""
    return finish("encode", work if isinstance(work, Dataset) else work.writer.commit(shards), started)
