"""Register stage: the model as a complete diffusers folder in MLflow's registry, with lineage and metrics.

Every version becomes `@candidate`; `@champion` moves only when the evaluation's gate says so (tasks/champion.py).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from pipeline_lib.config import BaseModel
from pipeline_lib.models.aligned import export
from pipeline_lib.store import open_dataset
from tasks import champion, registry, tracking
from tasks.evaluate import evaluation_metrics, pull_commands, read_report
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
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pipeline"
        export(trained.local("model"), base, folder)
        version = registry.register(name, run_id, folder, metrics, tags)
    uri = f"models:/{name}/{version}"
    decision = champion.settle(name, version, trained.digest, report)
    held = f"{champion.CANDIDATE}, {champion.CHAMPION}" if decision.promote else champion.CANDIDATE
    get_run_logger().info("register: %s (alias %s). %s", uri, held, decision.reason)
    create_markdown_artifact(
        f"## {uri}\n\nAlias: {held}. {decision.reason}\n\n```python\n{pull_commands(name)}```\n",
        key="registered-model",
    )
    return uri
