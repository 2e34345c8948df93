"""Where this machine keeps its state, and how I/O is retried: the same for every task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from pipeline_lib.core.disk import space
from pipeline_lib.core.errors import (
    ConfigError,
    DatasetCorruptError,
    HubError,
    PipelineError,
    SourceError,
    StoreError,
    UnreadableFileError,
)
from pipeline_lib.core.permissions import own
from pipeline_lib.core.store import absolute
from pipeline_lib.core.transport import is_transport_error


def state_dir() -> Path:
    """The ignored folder with everything this machine writes (`PIPELINE_STATE`, default `.state`); no stranger's."""
    folder = Path(os.environ.get("PIPELINE_STATE", ".state")).resolve()
    with suppress(OSError):  # who writes there will say it better
        own(folder)
    return folder


def state_place(name: str) -> Path:
    """The folder `name` of the state folder, made when missing.

    Raises:
        ConfigError: it is no folder, or cannot be written to.
        DiskFullError: there is no space for it.
    """
    folder = state_dir() / name
    try:
        with space(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} cannot be written to")
    except OSError as error:
        raise ConfigError(
            f"The state folder {state_dir()} cannot be used: {error}.",
            "Have PIPELINE_STATE name a folder that this user may write to, where the worker is started.",
        ) from error
    return folder


def store_url(store: str | None) -> str:
    """The dataset store: the parameter, else `PIPELINE_STORE`, else `<state>/store`."""
    return absolute(store or os.environ.get("PIPELINE_STORE") or str(state_dir() / "store"))


def _is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry what another try can cure: I/O. A typed user error is final, except where its cause is I/O."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, HubError | SourceError | StoreError):
        final = isinstance(error, HubError | UnreadableFileError | DatasetCorruptError)
        return is_transport_error(error.__cause__) and not final
    return is_transport_error(error) and not isinstance(error, PipelineError)


IO_TASK: Mapping[str, Any] = {
    # The store is the cache: a finished dataset is found by its key, whatever process asks.
    "cache_policy": NO_CACHE,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": _is_transient,
}
