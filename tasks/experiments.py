"""MLflow's experiments, also those that people deleted: MLflow keeps them, and their names, until `mlflow gc`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Run, ViewType
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from pipeline_lib.core.errors import ConfigError


def experiment(server: MlflowClient, name: str) -> str:
    """The id of an experiment: made where there is none, restored where it was deleted.

    Several runs may want to make or restore it at the same time.

    Raises:
        ConfigError: it was deleted, and the server does not let this user restore it.
    """
    found = server.get_experiment_by_name(name)
    if found is None:
        try:
            return str(server.create_experiment(name))
        except mlflow.MlflowException:
            found = server.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == LifecycleStage.DELETED:
        _restore(server, found)
    return str(found.experiment_id)


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Raise ConfigError where the server does not let this user write to the experiment `name`."""
    try:
        yield
    except mlflow.MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        raise ConfigError(
            f"The MLflow experiment {name!r} is another user's: {error}.",
            "Have an administrator of MLflow rename it, or give this user EDIT on it.",
        ) from error


def find_run(server: MlflowClient, tag: str, value: str) -> Run | None:
    """The run with that tag in whatever experiment; where only a deleted experiment has it, that one is restored.

    Where there is no other, it is a run that was itself deleted.

    Raises:
        ConfigError: the experiment cannot be restored.
    """
    wanted = f"tags.`{tag}` = '{value}'"
    active = [e.experiment_id for e in _experiments(server, ViewType.ACTIVE_ONLY)]
    if found := server.search_runs(active, wanted, max_results=1):
        return found[0]
    for deleted in _experiments(server, ViewType.DELETED_ONLY):
        if found := server.search_runs([deleted.experiment_id], wanted, ViewType.ALL, max_results=1):
            _restore(server, deleted)
            return server.get_run(found[0].info.run_id)
    found = server.search_runs(active, wanted, ViewType.DELETED_ONLY, max_results=1)
    return found[0] if found else None


def was_deleted(run: Run) -> bool:
    """Whether people deleted the run, which MLflow keeps as it keeps experiments."""
    return bool(run.info.lifecycle_stage == LifecycleStage.DELETED)


def _experiments(server: MlflowClient, view: int) -> Iterator[Experiment]:
    token = None
    while True:
        page = server.search_experiments(view_type=view, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _restore(server: MlflowClient, found: Experiment) -> None:
    try:
        server.restore_experiment(found.experiment_id)
    except mlflow.MlflowException as error:
        if server.get_experiment(found.experiment_id).lifecycle_stage == LifecycleStage.ACTIVE:
            return  # another run was faster
        raise ConfigError(
            f"The MLflow experiment {found.name!r} was deleted, and cannot be restored: {error}.",
            f"As its owner or an administrator: `mlflow experiments restore --experiment-id {found.experiment_id}`; "
            f"or, to lose its runs, `mlflow gc --experiment-ids {found.experiment_id}` on the server.",
        ) from error
    _warn("the MLflow experiment %s had been deleted, and is restored with its runs", found.name)


def _warn(text: str, *values: Any) -> None:
    """In the run's log, or in the process's where no flow runs."""
    warning: Callable[..., None]
    try:
        warning = get_run_logger().warning
    except MissingContextError:
        warning = logging.getLogger(__name__).warning
    warning(text, *values)
