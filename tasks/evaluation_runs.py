"""Numbers and reports in MLflow: each evaluation, comparison and sweep is a run, found again by its dataset's key.

An evaluation is nested below the run of its model: one with other settings, or against another champion, leaves the
numbers of the one before as they are. The model's own run carries those of the first, for MLflow's tables of models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import LoggedModelInput, Metric, Run

from pipeline_lib.core.store import Dataset
from tasks.experiments import find_run, was_deleted
from tasks.links import run_url
from tasks.locks import alone
from tasks.tracking import BATCH, PARENT, client, closing, log_datasets, open_run
from tasks.wanted import require_wanted

EVALUATION_TAG = "pipeline.evaluation_key"
COMPARISON_TAG = "pipeline.comparison_key"
COMPARISONS = "compare"
REPORTS = "evaluation"
"""Folder of a run's artifacts with report.html and report.json."""
_STORE_LINK = re.compile(r'<a href="\.\./\.\./([^"]+)">(.*?)</a>', re.DOTALL)


def log_evaluation(
    model_run: str, title: str, dataset: Dataset, settings: Mapping[str, Any], metrics: Mapping[str, float]
) -> str:
    """A finished run with the numbers (`eval/...`) and the report of an evaluation; returns its id.

    Args:
        model_run: the run of the model's training, which may be that of several evaluations.
        dataset: the evaluation; asked for again, it has one run.
        settings: become parameters.
    """
    server = client()
    experiment = server.get_experiment(server.get_run(model_run).info.experiment_id).name
    with alone(f"evaluation-{dataset.key}"):
        run_id = open_run(experiment, title, {EVALUATION_TAG: dataset.key}, "", settings, {PARENT: model_run})
        with closing(run_id):
            log_report(run_id, metrics, dataset)
    with alone(f"evaluations-{model_run}"):
        if _evaluations(server.get_run(model_run)) <= {dataset.digest}:
            log_report(model_run, metrics, dataset)
    return run_id


def find_evaluation(dataset: Dataset) -> str | None:
    """The run of an evaluation; None where it was deleted, or made without this MLflow server."""
    found = find_run(client(), EVALUATION_TAG, dataset.key)
    return None if found is None or was_deleted(found) else str(found.info.run_id)


def log_comparison(
    dataset: Dataset,
    title: str,
    note: str,
    settings: Mapping[str, Any],
    metrics: Mapping[str, float],
    models: Sequence[str],
) -> str:
    """A finished run of experiment "compare" with the numbers and the report of a comparison; returns the run's id.

    Args:
        dataset: the comparison; asked for again, it has one run.
        note: what MLflow shows as the run's description (markdown).
        settings: become parameters.
        models: ids of the logged models that were compared: the run's inputs.
    """
    with alone(f"comparison-{dataset.key}"):
        run_id = open_run(COMPARISONS, title, {COMPARISON_TAG: dataset.key}, note, settings)
    with closing(run_id):
        client().log_inputs(run_id, models=[LoggedModelInput(model) for model in models])
        log_report(run_id, metrics, dataset)
    return run_id


def log_report(run_id: str, metrics: Mapping[str, float], dataset: Dataset) -> None:
    """Attach the numbers and the report files of an evaluation, a comparison or a sweep to a run."""
    require_wanted("log an evaluation")
    server = client()
    log_datasets(run_id, {REPORTS: dataset})
    log_numbers(run_id, metrics, dataset)
    for name, served in (("report.html", alone_standing), ("report.json", str)):
        if any(shard.path == name for shard in dataset.shards):
            with dataset.open(name) as file:
                server.log_text(run_id, served(file.read().decode()), f"{REPORTS}/{name}")


def alone_standing(page: str) -> str:
    """A report without links to other pages of the store, which MLflow does not have: it names their places there."""
    return _STORE_LINK.sub(r"\2 (in the store: <code>\1</code>)", page)


def report_url(run_id: str) -> str:
    """The page of MLflow that shows the report of `log_report`."""
    return run_url(client().get_run(run_id).info.experiment_id, run_id, f"{REPORTS}/report.html")


def log_numbers(run_id: str, metrics: Mapping[str, float], dataset: Dataset) -> None:
    """Metrics that a dataset says; logged again they are the same values, not second ones."""
    made = int(dataset.created * 1000)
    rows = [Metric(k, v, made, 0) for k, v in metrics.items()]
    for start in range(0, len(rows), BATCH):
        client().log_batch(run_id, metrics=rows[start : start + BATCH])


def _evaluations(run: Run) -> set[str]:
    """Digests of the evaluations whose numbers a model's run has, or would have if a process had not been killed."""
    found = set()
    for source in run.inputs.dataset_inputs if run.inputs else ():
        tags = {tag.key: tag.value for tag in source.tags}
        if tags.get("mlflow.data.context") == REPORTS:
            found.add(tags["pipeline.digest"])
    return found
