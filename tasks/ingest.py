"""Ingest stage: source rows to pairs, unique images and quarantine."""

from __future__ import annotations

import time

from prefect import task

from pipeline_lib import ingest as library
from pipeline_lib.config import IngestConfig
from tasks.outcome import Outcome, finish
from tasks.progress import reporter
from tasks.settings import IO_TASK


@task(name="ingest", **IO_TASK)
def ingest(store: str, config: IngestConfig) -> Outcome:
    """Read, check and deduplicate the source's pairs."""
    started = time.time()
    return finish("ingest", library.ingest(store, config, reporter("ingest", "rows")), started)
