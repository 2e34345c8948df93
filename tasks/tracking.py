"""MLflow: one run per trained model, found again by the model dataset's key, so that a resumed job continues its run;
and one per comparison.

A model's run holds parameters, input datasets with digests, training curves, evaluation metrics and the report; the
registered model version points back at it (tasks/registry.py).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset as LoggedDataset
from mlflow.entities import DatasetInput, InputTag, LoggedModelInput, Metric, Param, RunStatus, RunTag
from prefect.artifacts import create_link_artifact
from prefect.logging import get_run_logger

from pipeline_lib.config import BaseModel, TrainConfig
from pipeline_lib.errors import ConfigError
from pipeline_lib.store import Dataset
from pipeline_lib.urls import refuse_login
from tasks.links import mlflow_url, prefect_note, prefect_tags
from tasks.locks import alone

KEY_TAG = "pipeline.model_key"
COMPARISON_TAG = "pipeline.comparison_key"
COMPARISONS = "compare"
BATCH = 1000
FLUSH_SECONDS = 5.0


def client() -> MlflowClient:
    """A client of the tracking server named by MLFLOW_TRACKING_URI.

    Raises:
        ConfigError: it is not set, or holds a login, which links and errors would repeat.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ConfigError(
            "MLFLOW_TRACKING_URI is not set.", "Start the local stack (make up), or export your server's address."
        )
    mlflow.set_tracking_uri(refuse_login(uri))
    return MlflowClient(uri)


def training_run(name: str, key: str, model: BaseModel, config: TrainConfig) -> str:
    """The id of the run of model `key`: the one an earlier attempt opened, else a new one in experiment `name`."""
    params = {f"model.{k}": v for k, v in asdict(model).items()} | {f"train.{k}": v for k, v in asdict(config).items()}
    return open_run(name, f"{name}-{key[:8]}", {KEY_TAG: key}, "", params)


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
    client().log_inputs(run_id, models=[LoggedModelInput(model) for model in models])
    log_evaluation(run_id, metrics, dataset)
    client().set_terminated(run_id)
    return run_id


def open_run(
    name: str,
    title: str,
    key: Mapping[str, str],
    note: str,
    params: Mapping[str, Any],
    more_tags: Mapping[str, str] | None = None,
) -> str:
    """The run of experiment `name` with the tag `key`, running; a new one has `params`.

    Its tags and the end of its description lead to the present flow run, among whose artifacts is a link back.
    """
    server = client()
    experiment_id = _experiment(server, name)
    ((tag, value),) = key.items()
    found = server.search_runs([experiment_id], f"tags.`{tag}` = '{value}'", max_results=1)
    run = prefect_tags()
    description = "\n\n".join(filter(None, [note, prefect_note(run)]))
    tags = {**(more_tags or {}), **run, **({"mlflow.note.content": description} if description else {})}
    if found:
        run_id = str(found[0].info.run_id)
        # First: a RUNNING run whose flow run has ended is closed (deploy/recovery.py).
        server.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        server.update_run(run_id, "RUNNING")
        described = bool(found[0].data.params)  # not if the process was killed that had just created it
    else:
        run_id = str(server.create_run(experiment_id, run_name=title, tags={**key, **tags}).info.run_id)
        described = False
    if not described:
        server.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])
    if run:
        page = mlflow_url(f"experiments/{experiment_id}/runs/{run_id}")
        create_link_artifact(page, title, key="mlflow-run", description=f"MLflow run {title}")
    return run_id


def _experiment(server: MlflowClient, name: str) -> str:
    """The id of an experiment; several runs may want to make it at the same time."""
    if found := server.get_experiment_by_name(name):
        return str(found.experiment_id)
    try:
        return str(server.create_experiment(name))
    except mlflow.MlflowException:
        if found := server.get_experiment_by_name(name):
            return str(found.experiment_id)
        raise


def log_datasets(run_id: str, datasets: Mapping[str, Dataset]) -> None:
    """Record input datasets with their manifests' digests; logging the same ones again changes nothing."""
    inputs = [
        DatasetInput(
            LoggedDataset(name, found.digest[:36], *_source(found.uri)),
            [InputTag("mlflow.data.context", name), InputTag("pipeline.digest", found.digest)],
        )
        for name, found in datasets.items()
    ]
    client().log_inputs(run_id, inputs)


@dataclass
class MetricBuffer:
    """Collects training metrics and sends them in batches; what cannot be sent now is sent with the next batch.

    Attributes:
        logged: the last step the run has. Earlier ones are not sent again: a resumed trainer repeats steps, and the
            same model trained for another store belongs to the same run.
    """

    run_id: str
    waiting: list[Metric] = field(default_factory=list)
    sent_at: float = 0.0
    logged: int = 0

    def __post_init__(self) -> None:
        history = client().get_metric_history(self.run_id, "train/lr")
        self.logged = max((metric.step for metric in history), default=0)

    def add(self, record: Mapping[str, Any]) -> None:
        """One line of the trainer's metrics.jsonl; `step` is the optimizer step."""
        now = int(time.time() * 1000)
        step = int(record["step"])
        if step <= self.logged:
            return
        self.logged = step
        numbers = {k: float(v) for k, v in record.items() if k != "step" and isinstance(v, int | float)}
        self.waiting += [Metric(f"train/{k}", v, now, step) for k, v in numbers.items()]
        if len(self.waiting) >= BATCH or time.monotonic() - self.sent_at > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send everything that waits."""
        self.sent_at = time.monotonic()
        try:
            while self.waiting:
                count = self._whole_steps()
                client().log_batch(self.run_id, metrics=self.waiting[:count])
                del self.waiting[:count]
        except mlflow.MlflowException as error:
            # Training goes on without its tracker; the metrics are kept and replayed.
            get_run_logger().warning(
                "MLflow did not take %d metrics, trying again later: %s", len(self.waiting), error
            )

    def _whole_steps(self) -> int:
        """How many to send at once: who resumes asks only for the last step that the run has."""
        count = min(BATCH, len(self.waiting))
        while count < len(self.waiting) and self.waiting[count - 1].step == self.waiting[count].step:
            count -= 1
        return count


def log_sample(run_id: str, image: Path) -> None:
    """Attach a grid of sample images, `step-<step>.png`; a server that cannot be reached only costs the picture."""
    try:
        client().log_artifact(run_id, str(image), "samples")
    except mlflow.MlflowException as error:
        get_run_logger().warning("MLflow did not take %s: %s", image.name, error)


@contextmanager
def closing(run_id: str) -> Iterator[None]:
    """End the run truthfully: FINISHED, FAILED on an error, KILLED when the flow is cancelled or terminated."""
    try:
        yield
    except Exception:
        client().set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED))
        raise
    except BaseException:
        client().set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))
        raise
    client().set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))


def find_run(key: str) -> str:
    """The run of model `key`; raises ConfigError when the tracking server has none."""
    server = client()
    experiments = [e.experiment_id for e in server.search_experiments()]
    found = server.search_runs(experiments, f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    if not found:
        raise ConfigError(
            f"MLflow has no run of model {key}.", "Run the training flow against this MLflow server first."
        )
    return str(found[0].info.run_id)


def log_evaluation(run_id: str, metrics: Mapping[str, float], dataset: Dataset) -> None:
    """Attach evaluation metrics (`eval/...`) and the report files to the model's run."""
    server = client()
    log_numbers(run_id, metrics, dataset)
    folder = dataset.local()
    for name in ("report.html", "report.json"):
        if any(shard.path == name for shard in dataset.shards):
            server.log_artifact(run_id, str(folder / name), "evaluation")
    log_datasets(run_id, {"evaluation": dataset})


def log_numbers(run_id: str, metrics: Mapping[str, float], dataset: Dataset) -> None:
    """Metrics that a dataset says; logged again they are the same values, not second ones."""
    made = int(dataset.created * 1000)
    rows = [Metric(k, v, made, 0) for k, v in metrics.items()]
    for start in range(0, len(rows), BATCH):
        client().log_batch(run_id, metrics=rows[start : start + BATCH])


def allowed(label: str) -> str:
    """A label as part of a metric's or parameter's name: all other characters MLflow refuses."""
    return re.sub(r"[^\w. :/-]", "-", label).strip("/")


def _source(uri: str) -> tuple[str, str]:
    """MLflow's source type and JSON source of a dataset's location."""
    protocol, separator, _ = uri.partition("://")
    return (protocol, json.dumps({"uri": uri})) if separator else ("local", json.dumps({"uri": f"file://{uri}"}))
