"""MLflow: one run per trained model, found again by the model dataset's key, so that a resumed job continues its run.

A model's run holds parameters, input datasets with digests and training curves; below it is one for each evaluation
(tasks/evaluation_runs.py). The registered model version points back at both (tasks/registry.py).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset as LoggedDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunStatus, RunTag
from prefect.logging import get_run_logger

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import Dataset
from pipeline_lib.core.urls import refuse_login
from tasks import experiments
from tasks.links import link, prefect_note, prefect_tags, run_url
from tasks.wanted import require_wanted

KEY_TAG = "pipeline.model_key"
PARENT = "mlflow.parentRunId"
"""By this tag MLflow nests runs."""
UNMOVED_TAG = "pipeline.weights_unmoved"
"""Of a run whose weights do not move: the words that its description begins with (tasks/unmoved.py)."""
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

    Raises:
        ConfigError: the experiment was deleted and cannot be restored, or is another user's.
    """
    server = client()
    experiment_id = experiments.experiment(server, name)
    ((tag, value),) = key.items()
    found = server.search_runs([experiment_id], f"tags.`{tag}` = '{value}'", max_results=1)
    run = prefect_tags()
    unmoved = found[0].data.tags.get(UNMOVED_TAG) if found else None
    description = "\n\n".join(filter(None, [unmoved, note, prefect_note(run)]))
    tags = {**(more_tags or {}), **run, **({"mlflow.note.content": description} if description else {})}
    with experiments.writing(name):
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
        link(run_url(experiment_id, run_id), title, key="mlflow-run", description=f"MLflow run {title}")
    return run_id


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
    """End the run truthfully: FINISHED, FAILED on an error, KILLED when the flow is cancelled or terminated.

    Raises:
        ConfigError: people deleted the run meanwhile.
    """
    try:
        yield
        require_wanted(f"finish the MLflow run {run_id}")
    except Exception:
        _end(run_id, RunStatus.FAILED)
        raise
    except BaseException:
        with suppress(ConfigError):
            _end(run_id, RunStatus.KILLED)
        raise
    _end(run_id, RunStatus.FINISHED)


def _end(run_id: str, status: int) -> None:
    server = client()
    try:
        server.set_terminated(run_id, RunStatus.to_string(status))
    except mlflow.MlflowException as error:
        if not experiments.was_deleted(server.get_run(run_id)):
            raise
        raise ConfigError(
            f"The MLflow run {run_id} was deleted, or its experiment, while it was written.",
            "Run the same again: it finds what is finished, and restores the experiment or opens another run.",
        ) from error


def find_run(key: str) -> str:
    """The run of model `key`; raises ConfigError when the tracking server has none, or it was deleted."""
    found = experiments.find_run(client(), KEY_TAG, key)
    if found is None:
        raise ConfigError(
            f"MLflow has no run of model {key}.", "Run the training flow against this MLflow server first."
        )
    run_id = str(found.info.run_id)
    if experiments.was_deleted(found):
        raise ConfigError(
            f"The MLflow run {run_id} of model {key} was deleted.",
            f"Restore it (`mlflow runs restore --run-id {run_id}`), or run the training flow again: it opens a new "
            "one, and finds the model in the store.",
        )
    return run_id


def allowed(label: str) -> str:
    """A label as part of a metric's or parameter's name: all other characters MLflow refuses."""
    return re.sub(r"[^\w. :/-]", "-", label).strip("/")


def _source(uri: str) -> tuple[str, str]:
    """MLflow's source type and JSON source of a dataset's location."""
    protocol, separator, _ = uri.partition("://")
    return (protocol, json.dumps({"uri": uri})) if separator else ("local", json.dumps({"uri": f"file://{uri}"}))
