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
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.logging import get_run_logger

from pipeline_lib.config import BaseModel, EvaluateConfig
from pipeline_lib.evaluation.painter import make_scheduler, model_folder
from pipeline_lib.store import Dataset, open_dataset
from tasks import champion, registry, tracking
from tasks.evaluate import evaluation_metrics, read_report
from tasks.flavour import write_flavour
from tasks.links import prefect_note, prefect_tags, version_url
from tasks.pull import pull_commands, tried_versions
from tasks.settings import IO_TASK


@task(name="register", **IO_TASK)
def register(name: str, base: BaseModel, model: str, evaluation: str) -> str:
    """Publish model dataset `model` with the numbers of `evaluation`; returns `models:/<name>/<version>`."""
    trained, judged = open_dataset(model), open_dataset(evaluation)
    run_id = tracking.find_run(trained.key)
    report = read_report(judged)
    champion.evaluated(report, name, trained.digest)
    metrics = evaluation_metrics(report, name)
    tags = {
        champion.MODEL_DIGEST: trained.digest,
        "pipeline.evaluation_digest": judged.digest,
        champion.MODEL_DATASET: trained.path(),
        "pipeline.base": f"{base.repo}@{base.revision or 'mirror'}",
        **{f"pipeline.input.{source['uri'].split('/')[0]}": source["digest"] for source in trained.inputs},
    }
    config = sampling(report)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pipeline"
        publish(trained, base, config, folder)
        version = registry.register(name, run_id, folder, metrics, tags)
    uri = f"models:/{name}/{version}"
    decision = champion.settle(name, version, trained.digest, report)
    held = f"{champion.CANDIDATE}, {champion.CHAMPION}" if decision.promote else champion.CANDIDATE
    get_run_logger().info("register: %s (alias %s). %s", uri, held, decision.reason)
    description = f"{decision.reason}\n\n```python\n{pull_commands(uri, config)}```\n\n{tried_versions()}\n"
    run = prefect_tags()
    registry.tag_version(name, version, run)
    registry.describe_version(name, version, f"{description}\n{prefect_note(run)}\n")
    create_markdown_artifact(f"## {uri}\n\nAlias: {held}. {description}", key="registered-model")
    create_link_artifact(version_url(uri), uri, key="mlflow-version", description=f"{uri}, alias {held}")
    return uri


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
