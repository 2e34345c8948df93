"""Train stage: one training job in its own process, tracked in MLflow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from prefect import task
from prefect.logging import get_run_logger

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.store import open_dataset
from pipeline_lib.sizing.forecast import of_datasets
from pipeline_lib.training import movement
from pipeline_lib.training.launch import job
from tasks import forecast, tracking, unmoved
from tasks.locks import alone
from tasks.outcome import Outcome, finish
from tasks.progress import reporter
from tasks.settings import IO_TASK, state_place
from tasks.stopping import asked_to_stop

LOG_SECONDS = 10.0


@task(name="train", **IO_TASK)
def train(
    store: str,
    name: str,
    model: BaseModel,
    config: TrainConfig,
    encoded: str,
    labels: str,
    inputs: dict[str, str],
    processes: int | None = None,
    sharding: Literal["none", "fsdp"] = "none",
) -> tuple[Outcome, str]:
    """Train `model` by `config`; returns the model dataset and the id of its MLflow run.

    Args:
        name: MLflow experiment, as of `pipeline_lib.core.names`.
        inputs: further datasets to record as this model's lineage (pairs, scores), by name.
        processes: trainer processes; None takes one per GPU.
        sharding: "fsdp" spreads a full fine-tuning over them.
    """
    started = time.time()
    datasets = {"encoded": open_dataset(encoded), "labels": open_dataset(labels)}
    target = job.model_writer(store, model, config, datasets["encoded"], datasets["labels"])
    key = done.key if (done := target.finished()) else target.key  # it may lie under the key of before, or of force
    with alone(f"train-{key}"):  # a second run of the same would open a second MLflow run, and fight over it
        run_id = tracking.training_run(name, key, model, config)
        tracking.log_datasets(run_id, datasets | {k: open_dataset(uri) for k, uri in inputs.items()})
        if done is None and (expected := of_datasets(model, config, **datasets)):
            forecast.tell(run_id, expected)
        metrics = tracking.MetricBuffer(run_id)
        progress = reporter("train", "steps")
        logger = get_run_logger()
        logged = time.monotonic()

        def follow(record: Mapping[str, Any]) -> None:
            nonlocal logged
            metrics.add(record)
            if record["step"] == config.steps:  # before the model is committed: who comes later asks no trainer
                metrics.flush()
            progress(int(record["step"]), config.steps, clock=record.get("seconds"))  # the trainer's own
            if words := movement.warning(asdict(config), record):
                unmoved.warn(run_id, words)
            if time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                logger.info("train: %s", ", ".join(f"{k} {v:.4g}" for k, v in record.items()))

        with tracking.closing(run_id):
            dataset = job.train(
                store,
                model,
                config,
                datasets["encoded"],
                datasets["labels"],
                state_place("scratch"),
                on_metrics=follow,
                on_sample=lambda image: tracking.log_sample(run_id, image),
                processes=processes,
                sharding=sharding,
                stopping=asked_to_stop,
            )
            for record in job.read_metrics(dataset):  # where a trainer's were lost, or went to another server
                metrics.add(record)
            metrics.flush()
    return finish("train", dataset, started), run_id
