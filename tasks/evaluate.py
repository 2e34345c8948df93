"""Evaluate stage: base and aligned model on the same prompts and seeds, judged by every scorer."""

from __future__ import annotations

import json
import time
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from pipeline_lib import evaluation
from pipeline_lib.core.config import BaseModel, EvaluateConfig
from pipeline_lib.core.names import model_name
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.evaluation.headline import headline
from pipeline_lib.generation.pull import pull_commands
from pipeline_lib.training.launch import job
from tasks import champion, evaluation_runs, tracking, unmoved
from tasks.links import link
from tasks.outcome import Outcome, finish
from tasks.paint import Model
from tasks.progress import reporter
from tasks.settings import IO_TASK


@task(name="model-name", **IO_TASK)
def trained_name(preset: str, model: str) -> str:
    """What the model dataset `model` is called in MLflow: by the loss that trained it."""
    return model_name(preset, open_dataset(model).config["train"]["method"])


@task(name="contestants", **IO_TASK)
def contestants(store: str, base: BaseModel, model: str, name: str) -> list[Model]:
    """The models that `evaluate` compares: the base, the champion where there is one, and `model`; raises ConfigError
    where MLflow knows nothing of `model`."""
    trained = open_dataset(model)
    tracking.find_run(trained.key)  # the numbers belong there; without it nothing need be painted
    models, bases = _models(store, trained, name)
    return [(found.uri if found else None, bases.get(label, base)) for label, found in models.items()]


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
    heldout: str | None = None,
    agreement: str | None = None,
    device: str = "auto",
) -> Outcome:
    """Compare the model dataset `model` with its base, and with the registry's champion of that name where there is
    one; win rates and the report go to an MLflow run below the model's. Images and scores that are in the store, made
    on the kind of device `device`, are taken from there."""
    started = time.time()
    trained = open_dataset(model)
    models, bases = _models(store, trained, name)
    dataset = evaluation.evaluate(
        store,
        models,
        base,
        config,
        scorers,
        weights,
        [open_dataset(pairs)],
        reporter("evaluate", "images"),
        metrics={name: job.read_metrics(trained)},
        pull={name: pull_commands(f"models:/{name}@candidate", config)},
        title=f"{name} against base",
        champion=next(iter(bases), None),
        bases=bases,
        held_out=open_dataset(heldout) if heldout else None,
        agreement=open_dataset(agreement) if agreement else None,
        device=device,
    )
    report = read_report(dataset)
    get_run_logger().info("evaluate: %s", headline(report))
    create_table_artifact(win_rates(report, name), key="win-rates", description=f"{name} against base, 95% intervals")
    create_markdown_artifact(
        f"{name}: {report['gate'][name]['sentence']}", key="gate", description="gate to @champion"
    )
    link(evaluation_runs.report_url(record(trained, dataset, report, name)), "report.html", key="report")
    if words := report.get("unmoved", {}).get(name):
        unmoved.warn(tracking.find_run(trained.key), words)
    return finish("evaluate", dataset, started)


def record(trained: Dataset, judged: Dataset, report: dict[str, Any], name: str) -> str:
    """Log an evaluation to MLflow, once; returns the id of its run."""
    settings = report["settings"]
    rival = report["champion"] or "base"
    title = f"{name}-{trained.key[:8]} on {settings['prompts']} against {rival}"
    params = {"model": trained.path(), "rival": rival, **settings}
    return evaluation_runs.log_evaluation(
        tracking.find_run(trained.key), title, judged, params, evaluation_metrics(report, name)
    )


def _models(store: str, model: Dataset, name: str) -> tuple[dict[str, Dataset | None], dict[str, BaseModel]]:
    """Models by label, the base first, and what the champion was trained from."""
    models: dict[str, Dataset | None] = {"base": None}
    bases: dict[str, BaseModel] = {}
    rival = champion.find_rival(name, model.digest)
    if rival and (held := champion.open_rival(rival, store)):
        models[rival.label], bases[rival.label] = held
    return {**models, name: model}, bases


def read_report(dataset: Dataset) -> dict[str, Any]:
    """The numbers of an evaluation dataset (`report.json`)."""
    with dataset.open("report.json") as file:
        return dict(json.load(file))


def evaluation_metrics(report: dict[str, Any], name: str) -> dict[str, float]:
    """MLflow metrics of model `name` against its base: `eval/win_rate/<scorer>`, its bounds, p-values, differences,
    mean scores, and where they were measured diversity within a prompt and implicit-reward accuracy."""
    metrics: dict[str, float] = {}
    for scorer, (point, low, high) in report["win_rate"][name].items():
        metrics |= {
            f"eval/win_rate/{scorer}": point,
            f"eval/win_rate_low/{scorer}": low,
            f"eval/win_rate_high/{scorer}": high,
        }
    for scorer, row in report["comparisons"][name]["scorers"].items():
        metrics |= {f"eval/difference/{scorer}": row["difference"][0], f"eval/p_holm/{scorer}": row["p_holm"]}
    if judged := report["implicit"].get(name):
        point, low, high = judged["accuracy"]
        metrics |= {"eval/implicit_accuracy": point}
        metrics |= {"eval/implicit_accuracy_low": low, "eval/implicit_accuracy_high": high}
    about = report["models"][name]
    metrics |= {f"eval/mean/{scorer}": mean for scorer, mean in about["means"].items()}
    return metrics | ({"eval/diversity": about["diversity"]} if "diversity" in about else {})


def win_rates(report: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Rows for a table artifact: win rate of model `name` against its base with interval, by scorer."""
    return [
        {"scorer": scorer, "win rate": round(point, 4), "low": round(low, 4), "high": round(high, 4)}
        for scorer, (point, low, high) in report["win_rate"][name].items()
    ]
