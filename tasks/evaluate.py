"""Evaluate stage: base and aligned model on the same prompts and seeds, judged by every scorer."""

from __future__ import annotations

import json
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact

from pipeline_lib.config import BaseModel, EvaluateConfig
from pipeline_lib.evaluation import evaluate as library
from pipeline_lib.store import Dataset, open_dataset
from tasks import tracking
from tasks.outcome import Outcome, run_stage
from tasks.progress import reporter
from tasks.settings import IO_TASK


@task(name="evaluate", **IO_TASK)
def evaluate(
    store: str,
    base: BaseModel,
    model: str,
    name: str,
    config: EvaluateConfig,
    scorers: list[str],
    weights: str,
    pairs: str,
    run_id: str,
) -> Outcome:
    """Compare the model at URI `model` with its base; attach win rates and the report to the MLflow run `run_id`."""
    models = {"base": None, name: open_dataset(model)}
    outcome = run_stage(
        "evaluate",
        lambda: library(
            store, models, base, config, scorers, weights, open_dataset(pairs), reporter("evaluate", "images")
        ),
    )
    dataset = open_dataset(outcome.uri)
    report = read_report(dataset)
    create_table_artifact(headline(report), key="win-rates", description=f"{name} against base, 95% intervals")
    create_link_artifact(f"file://{dataset.local()}/report.html", "report.html", key="report")
    tracking.log_evaluation(run_id, report, dataset)
    return outcome


def read_report(dataset: Dataset) -> dict[str, Any]:
    """The numbers of an evaluation dataset (`report.json`)."""
    with dataset.open("report.json") as file:
        return dict(json.load(file))
