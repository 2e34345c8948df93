"""A model whose training does not move its weights says so in the flow's log and in MLflow."""

from __future__ import annotations

import mlflow
from prefect.logging import get_run_logger

from tasks.tracking import UNMOVED_TAG, client

NOTE = "mlflow.note.content"


def warn(run_id: str, words: str) -> None:
    """Log `words`, and put them into the tags and, once, before the description of the model's MLflow run.

    A server that cannot be reached does not stop a training.
    """
    logger = get_run_logger()
    logger.warning("%s", words)
    try:
        tags = client().get_run(run_id).data.tags
        note = tags.get(NOTE, "").removeprefix(tags.get(UNMOVED_TAG, "")).lstrip("\n")
        client().set_tag(run_id, UNMOVED_TAG, words)
        client().set_tag(run_id, NOTE, "\n\n".join(filter(None, [words, note])))
    except mlflow.MlflowException as error:
        logger.warning("MLflow did not take this warning: %s", error)
