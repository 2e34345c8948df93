"""What a stack consists of: each component's command, when it is healthy, and what happens before it starts."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy import recovery
from deploy.stack import api
from deploy.stack.processes import FLOW_GRACE_S
from deploy.stack.settings import HOST, WORK_POOL, StackError, StackSettings, component_environment
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.urls import refuse_login

logger = logging.getLogger(__name__)

# Where the MLflow server keeps models and reports, such as s3://bucket/prefix; the keys are in its environment.
ARTIFACTS_VARIABLE = "PIPELINE_ARTIFACTS"
PREFECT_SERVER_SETTINGS = {
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # The newer pages (/v2) ask amplitude.com for their configuration, whatever the server's settings say of analytics.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # SQLite has one writer, and training takes the processor: 10 s and 5 s are too short for a write in the queue.
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
    "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "30",
}


@dataclass(frozen=True)
class Component:
    """One supervised process.

    `healthy` takes the start time (seconds since the epoch). `needs` names the components that must be healthy before
    this one starts. Whenever it is about to start, and when the stack stops it, what is left of its processes is ended
    (`grace_s` seconds between SIGTERM and SIGKILL); then `before_start` or `after_stop` runs.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    healthy: Callable[[float], bool]
    grace_s: float
    needs: tuple[str, ...] = ()
    before_start: Callable[[], None] = lambda: None
    after_stop: Callable[[], None] = lambda: None


def components(settings: StackSettings) -> list[Component]:
    """The components in the order in which they start; they stop in the reverse order."""
    return [prefect_server(settings), mlflow_server(settings), worker(settings)]


def prefect_server(settings: StackSettings) -> Component:
    port = str(settings.prefect_port)
    return Component(
        name="prefect",
        command=[sys.executable, "-m", "deploy.stack.prefect_server", "start", "--host", HOST, "--port", port],
        environment=component_environment(settings, "prefect") | PREFECT_SERVER_SETTINGS,
        healthy=lambda _: api.answers(f"{settings.prefect_url}/api/health"),
        grace_s=15.0,
    )


def mlflow_server(settings: StackSettings) -> Component:
    folder = settings.state / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "mlflow.db"
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(settings.mlflow_port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{database}"]
    # Clients upload and download through the server: a consumer needs the server's address and no key.
    destination = os.environ.get(ARTIFACTS_VARIABLE, "").strip() or (folder / "artifacts").as_uri()
    try:
        refuse_login(destination)  # every user of the machine can read command lines
    except ConfigError as error:
        raise StackError(f"{ARTIFACTS_VARIABLE}: {error}") from error
    command += ["--serve-artifacts", "--artifacts-destination", destination]
    return Component(
        name="mlflow",
        command=command,
        # Job execution serves GenAI evaluations only and starts seven processes of 245 MB.
        environment=component_environment(settings, "mlflow") | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        healthy=lambda _: api.answers(f"{settings.mlflow_url}/health"),
        grace_s=15.0,
        before_start=lambda: write_ahead(database),
    )


def write_ahead(database: Path) -> None:
    """Have a SQLite file, which is made when missing, keep a log of what is written: readers and the one writer then
    do not wait for each other. The file remembers it. Prefect does so by itself, MLflow does not."""
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=30.0)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error as error:
        raise StackError(f"the database {database} cannot be opened: {error}") from error


def servers(settings: StackSettings) -> recovery.Servers:
    """The stack's servers, which ask for no login."""
    return recovery.Servers(f"{settings.prefect_url}/api", settings.mlflow_url)


def worker(settings: StackSettings) -> Component:
    """The only worker of its pool: a run that the pool holds while this one is down was abandoned."""

    def close_runs(reason: str) -> None:
        if names := recovery.crash_held_runs(servers(settings), WORK_POOL, reason):
            logger.warning("marked as crashed: %s", ", ".join(names))

    command = [sys.executable, "-m", "deploy.worker", "--pool", WORK_POOL, "--type", "process"]
    return Component(
        name="worker",
        command=[*command, "--name", api.WORKER_NAME, "--install-policy", "never"],
        # The default of 15 s between polls is most of the time that a short flow run takes.
        environment=component_environment(settings, "worker") | {"PREFECT_WORKER_QUERY_SECONDS": "2"},
        healthy=lambda since: api.worker_is_online(settings, since),
        grace_s=FLOW_GRACE_S,
        needs=("prefect", "mlflow"),
        before_start=lambda: close_runs("The worker that ran this ended, and its processes were stopped."),
        after_stop=lambda: close_runs("The local stack was stopped while this ran."),
    )
