"""Compare task: any models on the same prompts and seeds, all against one of them, with a report and an MLflow run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from pipeline_lib import evaluation
from pipeline_lib.core.config import EvaluateConfig
from pipeline_lib.core.lineage import lineage
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.evaluation.comparable import check_comparable
from pipeline_lib.evaluation.headline import headline
from pipeline_lib.evaluation.implicit import check_unseen, judges_pairs
from pipeline_lib.generation.pull import pull_commands
from pipeline_lib.training.launch import job
from tasks import evaluation_runs, registry, tracking
from tasks.contenders import BASE, VERSION, Contender
from tasks.evaluate import evaluation_metrics, read_report, win_rates
from tasks.links import link, markdown, version_url
from tasks.outcome import Outcome, finish
from tasks.progress import reporter
from tasks.settings import IO_TASK


@task(name="check-models", **IO_TASK)
def check_models(contenders: list[Contender], heldout: str | None = None) -> list[str]:
    """Refuse, before anything is painted, models that cannot be compared, and held-out pairs (URI of an ingest) with
    the prompts that they were trained on; the URIs of what they were trained on."""
    models = opened(contenders)
    check_comparable(models, {c.label: c.base for c in contenders})
    pairs = [dataset for found in training_pairs(models).values() for dataset in found]
    if heldout and any(map(judges_pairs, models.values())):
        check_unseen(open_dataset(heldout), pairs)
    return [dataset.uri for dataset in pairs]


@task(name="compare", **IO_TASK)
def compare(
    store: str,
    contenders: list[Contender],
    reference: Contender,
    config: EvaluateConfig,
    scorers: list[str],
    weights: str,
    heldout: str | None = None,
    device: str = "auto",
) -> Outcome:
    """Compare every contender with the reference, which is one of them. Images and scores that are in the store, made
    on the kind of device `device`, are taken from there."""
    started = time.time()
    models = opened(contenders)
    bases = {c.label: c.base for c in contenders}
    known = training_pairs(models)
    pairs = {dataset.digest: dataset for found in known.values() for dataset in found}
    others = [label for label in models if label != reference.label]
    dataset = evaluation.evaluate(
        store,
        models,
        reference.base,
        config,
        scorers,
        weights,
        list(pairs.values()),
        reporter("compare", "images"),
        metrics={label: job.read_metrics(model) for label, model in models.items() if model},
        pull={c.label: pull_commands(c.version, config) for c in contenders if c.version},
        title=f"{', '.join(others)} against {reference.label}",
        bases=bases,
        held_out=open_dataset(heldout) if heldout else None,
        reference=reference.label,
        gated=False,
        unchecked=[label for label in models if label != BASE and not known.get(label)],
        device=device,
    )
    report = read_report(dataset)
    get_run_logger().info("compare: %s", headline(report))
    rows = [{"model": label, **row} for label in others for row in win_rates(report, label)]
    create_table_artifact(rows, key="comparison", description=f"{report['title']}, 95% intervals")
    versions = [c.version for c in contenders if c.version]
    note = f"```\n{headline(report)}\n```\n\n{links(versions)}".strip()
    create_markdown_artifact(f"## {report['title']}\n\n{note}", key="comparison-headline", description="win rates")
    settings = {"reference": reference.label, **report["settings"]}
    run_id = evaluation_runs.log_comparison(
        dataset, report["title"], note, settings, numbers(report), logged(versions)
    )
    link(evaluation_runs.report_url(run_id), "report.html", key="report")
    return finish("compare", dataset, started)


def opened(contenders: Sequence[Contender]) -> dict[str, Dataset | None]:
    """Model datasets by label; None for whole pipelines."""
    return {c.label: open_dataset(c.model) if c.model else None for c in contenders}


def training_pairs(models: Mapping[str, Dataset | None]) -> dict[str, list[Dataset]]:
    """The pairs that each model with a dataset was trained on; none where its lineage does not lead there."""
    return {
        label: [dataset for dataset in lineage([model]) if dataset.stage == "ingest"]
        for label, model in models.items()
        if model
    }


def numbers(report: dict[str, Any]) -> dict[str, float]:
    """MLflow metrics of a comparison: `<model>/win_rate/<scorer>` and the others of `evaluation_metrics`."""
    metrics: dict[str, float] = {}
    for label in report["win_rate"]:
        model = tracking.allowed(label)
        found = evaluation_metrics(report, label)
        metrics |= {f"{model}/{name.removeprefix('eval/')}": value for name, value in found.items()}
    return metrics


def links(versions: Sequence[str]) -> str:
    """Markdown that leads to registered versions (`models:/<name>/<version>`) in MLflow's UI."""
    return "\n".join(f"- {markdown(uri, version_url(uri))}" for uri in versions)


def logged(versions: Sequence[str]) -> list[str]:
    """Ids of the logged models behind registered versions."""
    found = [registry.logged_model(*uri.removeprefix(VERSION).rsplit("/", 1)) for uri in versions]
    return [model for model in found if model]
