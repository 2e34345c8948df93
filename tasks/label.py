"""Label stage: human votes and scores to training targets, by a recipe; and a trained model as a further scorer."""

from __future__ import annotations

import json
import time
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact

from pipeline_lib.labels.recipe import build_labels
from pipeline_lib.labels.report import REPORT_JSON, summary
from pipeline_lib.store import open_dataset
from pipeline_lib.training.implicit import JudgeConfig, judge_pairs
from tasks.outcome import Outcome, finish
from tasks.progress import reporter
from tasks.settings import IO_TASK


@task(name="label", **IO_TASK)
def label(store: str, recipe: str | list[dict[str, Any]], pairs: str, scores: dict[str, str]) -> Outcome:
    """Apply a recipe (a name, YAML text, or steps); `scores` maps scorer names to their datasets' URIs."""
    started = time.time()
    opened = {name: open_dataset(uri) for name, uri in scores.items()}
    dataset = build_labels(store, recipe, open_dataset(pairs), opened)
    with dataset.open(REPORT_JSON) as file:
        report = json.load(file)
    create_markdown_artifact(summary(report, dataset.uri), key="label-report", description="label: kept, agreement")
    return finish("label", dataset, started)


@task(name="self-training", **IO_TASK)
def self_training(store: str, models: list[str], encoded: str, pairs: str, config: JudgeConfig) -> Outcome:
    """Judge pairs by trained models; the result is the score dataset of "self-training" that recipes read."""
    started = time.time()
    opened = [open_dataset(uri) for uri in models]
    progress = reporter("self-training", "pairs")
    dataset = judge_pairs(store, opened, open_dataset(encoded), open_dataset(pairs), config, progress)
    return finish("self-training", dataset, started)
