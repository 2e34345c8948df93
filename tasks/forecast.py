"""What a training run will take is in the flow's log and in MLflow before its first step."""

from __future__ import annotations

import mlflow
from prefect.logging import get_run_logger

from pipeline_lib.sizing.forecast import Forecast
from tasks.tracking import client

FORECAST_TAG = "pipeline.forecast"
EPOCHS_TAG = "pipeline.epochs"
MANY_EPOCHS_TAG = "pipeline.many_epochs"
"""Of a run that sees its labels too often: the warning's words."""


def tell(run_id: str, found: Forecast) -> None:
    """Log a forecast and its warning, and put them into tags of the model's MLflow run.

    A server that cannot be reached does not stop a training.
    """
    logger, words = get_run_logger(), found.warning()
    logger.info("train: %s", found.words())
    tags = {FORECAST_TAG: found.words(), EPOCHS_TAG: f"{found.epochs:.4g}"}
    if words:
        logger.warning("%s", words)
        tags[MANY_EPOCHS_TAG] = words
    try:
        for name, value in tags.items():
            client().set_tag(run_id, name, value)
    except mlflow.MlflowException as error:
        logger.warning("MLflow did not take the forecast: %s", error)
