"""Label stage: human votes and scores to training targets, by a recipe."""

from __future__ import annotations

import json
import time

from prefect import task
from prefect.artifacts import create_markdown_artifact

from pipeline_lib.core.store import open_dataset
from pipeline_lib.labels.recipe import build_labels
from pipeline_lib.labels.recipes import Recipe
from pipeline_lib.labels.report import REPORT_JSON, summary
from tasks.outcome import Outcome, finish
from tasks.settings import IO_TASK


@task(name="label", **IO_TASK)
def label(store: str, recipe: Recipe, pairs: str, scores: dict[str, str]) -> Outcome:
    """Apply a recipe (a name, YAML text, or steps); `scores` maps scorer names to their datasets' URIs."""
    started = time.time()
    opened = {name: open_dataset(uri) for name, uri in scores.items()}
    dataset = build_labels(store, recipe, open_dataset(pairs), opened)
    with dataset.open(REPORT_JSON) as file:
        report = json.load(file)
    create_markdown_artifact(summary(report, dataset.uri), key="label-report", description="label: kept, agreement")
    return finish("label", dataset, started)
