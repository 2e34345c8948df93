"""Register stage: the model as a complete diffusers folder in MLflow's registry, with lineage and metrics.

The folder holds the pipeline that was judged, its scheduler included: the UNet in fp32, the rest as the base's authors
published it; and a pyfunc (tasks/pyfunc.py).
Every version becomes `@candidate`; `@champion` moves only when the evaluation's gate says so (tasks/champion.py).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from pipeline_lib.core.config import BaseModel, EvaluateConfig, require
from pipeline_lib.core.pins import pin
from pipeline_lib.core.store import Dataset, check, open_dataset
from pipeline_lib.generation.painter import make_scheduler
from pipeline_lib.generation.pull import pull_commands, tried_versions
from pipeline_lib.models.origin import check_base, model_folder, recorded_weights
from tasks import champion, evaluation_runs, registry, tracking
from tasks.evaluate import evaluation_metrics, read_report, record
from tasks.flavour import write_flavour
from tasks.links import link, markdown, prefect_note, prefect_tags, version_url
from tasks.settings import IO_TASK
from tasks.wanted import require_wanted

EVALUATION_RUN = "pipeline.evaluation_run"
"""Tag of a version: the MLflow run of the evaluation that judged it, with its numbers and report."""


@task(name="register", **IO_TASK)
def register(name: str, base: BaseModel, model: str, evaluation: str) -> str:
    """Publish model dataset `model` with the numbers of `evaluation`; returns `models:/<name>/<version>`.

    A version of the same model and evaluation is found, and nothing is built for it.

    Raises:
        DatasetCorruptError: files of the model or the evaluation are not those that were written.
        ConfigError: the model was trained, or judged, on another base than `base` as its files are now.
    """
    require_wanted(f"register {name}")
    trained, judged = open_dataset(model), open_dataset(evaluation)
    for dataset in (trained, judged):
        check(dataset)
    check_base(trained, base)
    run_id = tracking.find_run(trained.key)
    report = read_report(judged)
    champion.evaluated(report, name, trained.digest)
    check_judged(trained, report)
    pin(name, [trained, judged])  # first: there is no moment in which it may be taken for garbage
    tags = {
        champion.MODEL_DIGEST: trained.digest,
        champion.EVALUATION_DIGEST: judged.digest,
        champion.MODEL_DATASET: trained.path(),
        "pipeline.base": f"{base.repo}@{base.revision or 'mirror'}",
        **{f"pipeline.input.{source['uri'].split('/')[0]}": source["digest"] for source in trained.inputs},
    }
    config = sampling(report)
    measured_by = evaluation_runs.find_evaluation(judged) or record(trained, judged, report, name)
    if version := registry.find(name, tags):
        get_run_logger().info("register: version %s of %s is this model; nothing is built", version, name)
        registry.set_alias(name, champion.CANDIDATE, version)
    else:
        metrics = evaluation_metrics(report, name)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "pipeline"
            publish(trained, base, config, folder)
            version = registry.register(name, run_id, folder, metrics, tags, measured_by)
    uri = f"models:/{name}/{version}"
    decision = champion.settle(name, version, trained.digest, report)
    held = ", ".join(sorted(alias for alias, number in registry.aliases(name).items() if number == version))
    get_run_logger().info("register: %s (alias %s). %s", uri, held, decision.reason)
    run, page = prefect_tags(), evaluation_runs.report_url(measured_by)
    registry.tag_version(name, version, {**run, EVALUATION_RUN: measured_by})
    reason = registry.version_tags(name, version)[champion.GATE_REASON]  # what it became; now may be another matter
    pull = f"```python\n{pull_commands(uri, config)}```\n\n{tried_versions()}"
    notes = [reason, markdown("The evaluation's report", page), pull, prefect_note(run)]
    registry.describe_version(name, version, "\n\n".join(filter(None, notes)))
    create_markdown_artifact(f"## {uri}\n\nAlias: {held}. {decision.reason}\n\n{pull}\n", key="registered-model")
    link(version_url(uri), uri, key="mlflow-version", description=f"{uri}, alias {held}")
    return uri


def check_judged(trained: Dataset, report: dict[str, Any]) -> None:
    """Raise ConfigError where an evaluation painted a model on another base than it was trained from."""
    wanted, found = recorded_weights(trained), report["base"]["weights"]
    require(
        wanted is None or wanted == found,
        f"The evaluation {report['title']!r} painted on {report['base']['repo']} with the weights {found}, but "
        f"{trained.path()} was trained on a base with the weights {wanted}.",
        "Run evaluate with the base that the model was trained on, and register with the dataset it writes.",
    )


def publish(trained: Dataset, base: BaseModel, config: EvaluateConfig, folder: Path) -> None:
    """Write the pipeline that an evaluation with `config` judges, and its MLflow flavour, as a new folder."""
    from pipeline_lib.models.aligned import load_pipeline  # loads torch
    from pipeline_lib.models.published import save

    write_flavour(folder, config)
    pipeline = load_pipeline(trained.local(model_folder(trained)), base)
    pipeline.scheduler = make_scheduler(config.scheduler, pipeline.scheduler.config)
    save(pipeline, base, folder)


def sampling(report: dict[str, Any]) -> EvaluateConfig:
    """How the images of an evaluation were painted."""
    names = ("prompts", "scheduler", "steps", "guidance", "resolution", "mixed_precision")
    return EvaluateConfig(**{name: report["settings"][name] for name in names})
