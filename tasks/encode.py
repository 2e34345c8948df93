"""Encode stage: VAE moments of every image and text embeddings of every prompt."""

from __future__ import annotations

import time

from prefect import task

from pipeline_lib.config import BaseModel, EncodeConfig
from pipeline_lib.store import open_dataset
from tasks.outcome import Outcome, finish
from tasks.progress import reporter
from tasks.settings import IO_TASK


@task(name="encode", **IO_TASK)
def encode(store: str, model: BaseModel, config: EncodeConfig, pairs: str) -> Outcome:
    """Encode once per image and prompt, so that training needs neither VAE nor text encoder."""
    from pipeline_lib import encoding  # loads torch

    started = time.time()
    dataset = encoding.encode(store, model, config, open_dataset(pairs), reporter("encode", "shards"))
    return finish("encode", dataset, started)
