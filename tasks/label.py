"""Label stage: human votes and scores to training targets, by a recipe."""

from __future__ import annotations

import time
from typing import Any

from prefect import task

from pipeline_lib.labels.recipe import build_labels
from pipeline_lib.store import open_dataset
from tasks.outcome import Outcome, finish
from tasks.settings import IO_TASK


@task(name="label", **IO_TASK)
def label(store: str, recipe: str | list[dict[str, Any]], pairs: str, scores: dict[str, str]) -> Outcome:
    """Apply a named or spelled-out recipe; `scores` maps scorer names to their datasets' URIs."""
    started = time.time()
    opened = {name: open_dataset(uri) for name, uri in scores.items()}
    return finish("label", build_labels(store, recipe, open_dataset(pairs), opened), started)
