"""Evaluate stage: base and aligned model on the same prompts and seeds, judged by every scorer."""

from __future__ import annotations

import json
import time
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact

from pipeline_lib import evaluation
from pipeline_lib.config import BaseModel, EvaluateConfig
from pipeline_lib.store import Dataset, open_dataset
from tasks import tracking
from tasks.outcome import Outcome, finish
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
) -> Outcome:
    """Compare the model dataset `model` with its base; attach win rates and the report to the model's MLflow run."""
    started = time.time()
    trained = open_dataset(model)
    dataset = evaluation.evaluate(
        store,
        {"base": None, name: trained},
        base,
        config,
        scorers,
        weights,
        open_dataset(pairs),
        reporter("evaluate", "images"),
        metrics={name: read_metrics(trained)},
        pull={name: pull_commands(name)},
    )
    report = read_report(dataset)
    create_table_artifact(headline(report), key="win-rates", description=f"{name} against base, 95% intervals")
    create_link_artifact(f"file://{dataset.local()}/report.html", "report.html", key="report")
    tracking.log_evaluation(tracking.find_run(trained.key), evaluation_metrics(report), dataset)
    return finish("evaluate", dataset, started)


def pull_commands(name: str) -> str:
    """The lines that fetch a registered model and paint with it, no code of ours needed."""
    return (
        "import mlflow\n"
        "from diffusers import DiffusionPipeline\n\n"
        f'folder = mlflow.artifacts.download_artifacts("models:/{name}@candidate")\n'
        "pipe = DiffusionPipeline.from_pretrained(folder)\n"
        'pipe("a prompt").images[0].save("image.png")\n'
    )


def read_report(dataset: Dataset) -> dict[str, Any]:
    """The numbers of an evaluation dataset (`report.json`)."""
    with dataset.open("report.json") as file:
        return dict(json.load(file))


def read_metrics(model: Dataset) -> list[dict[str, Any]]:
    """The training curve of a model dataset (`metrics.jsonl`)."""
    with model.open("metrics.jsonl") as file:
        return [json.loads(line) for line in file]


def evaluation_metrics(report: dict[str, Any]) -> dict[str, float]:
    """MLflow metrics of an evaluation with one challenger: `eval/win_rate/<scorer>`, its bounds, and mean scores."""
    ((name, rates),) = report["win_rate"].items()
    metrics: dict[str, float] = {}
    for scorer, (point, low, high) in rates.items():
        metrics |= {
            f"eval/win_rate/{scorer}": point,
            f"eval/win_rate_low/{scorer}": low,
            f"eval/win_rate_high/{scorer}": high,
        }
    for scorer, mean in report["models"][name]["means"].items():
        metrics[f"eval/mean/{scorer}"] = mean
    return metrics


def headline(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows for a table artifact: win rate with interval by scorer."""
    ((_, rates),) = report["win_rate"].items()
    return [
        {"scorer": scorer, "win rate": round(point, 4), "low": round(low, 4), "high": round(high, 4)}
        for scorer, (point, low, high) in rates.items()
    ]
