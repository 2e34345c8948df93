"""Where the task runs of a flow execute: threads of the flow's process, or the workers of a Ray cluster."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.logging.handlers import APILogHandler
from prefect.settings import get_current_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from pipeline_lib.core.config import require

RunnerName = Literal["thread", "ray"]
Job = TypeVar("Job")
Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline_lib", "tasks", "flows")
"""Travel to every Ray worker, so that all run the flow's version; other packages are the nodes' own."""
FORWARDED = ("PREFECT_API_", "PREFECT_CLIENT_", "PREFECT_LOGGING_")
"""Settings that Ray workers take from the flow's process. Keys of the store and the hub are the nodes' own."""
LOCAL_CLUSTER: dict[str, Any] = {
    "address": "local",
    "include_dashboard": False,
    "_node_ip_address": "127.0.0.1",
    # Bytes; tasks pass URIs and digests, never tables.
    "object_store_memory": 100 << 20,
}


def task_runner(runner: RunnerName, address: str | None = None) -> TaskRunner[Any]:
    """The Prefect task runner of that name.

    Args:
        runner: "thread", or "ray".
        address: Ray only: `host:port` or `auto` for the cluster that this machine is a node of, `ray://host:10001`
            from outside a cluster; None starts a cluster on this machine for the duration of the flow.

    Raises:
        ConfigError: Ray is not installed, or an address was given to threads.
    """
    if runner == "thread":
        require(address is None, f"runner=thread takes no address, got {address}.", "Give runner=ray, or no address.")
        return ThreadPoolTaskRunner()
    require(
        find_spec("prefect_ray") is not None,
        "runner=ray needs the packages prefect-ray and ray, which are not installed.",
        "Install them: pip install -e '.[ray]' -c constraints.txt",
    )
    require(
        address is None or address == "auto" or _answers(address),
        f"No Ray cluster answers at {address}.",
        "Give host:port of its head (see `ray status`), auto on one of its nodes, or no address to start one here.",
    )
    from prefect_ray import RayTaskRunner

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cluster = LOCAL_CLUSTER if address is None else {"address": address}
    # As an init argument: RayTaskRunner's own `address` turns "auto" into a new cluster where none is found.
    return RayTaskRunner(init_kwargs={**cluster, "runtime_env": _runtime_env()})


def a_gpu_for_each_task(runner: RunnerName) -> AbstractContextManager[Any]:
    """Task runs submitted within it get a GPU of their own where the Ray cluster has GPUs. Enter it in the flow."""
    if runner == "thread":
        return nullcontext()
    import ray
    from prefect_ray.context import remote_options

    return remote_options(num_gpus=1) if ray.cluster_resources().get("GPU") else nullcontext()


def as_finished(
    submit: Callable[[Job], PrefectFuture[Result]], jobs: Iterable[Job], room: int
) -> Iterator[tuple[Job, Result]]:
    """Jobs with the results of their task runs, in the order in which these end.

    At most `room` are submitted at a time. A task run that failed raises here; nothing is submitted after it.
    """
    for job, future in as_ended(submit, jobs, room):
        yield job, future.result()


def as_ended(
    submit: Callable[[Job], PrefectFuture[Result]], jobs: Iterable[Job], room: int
) -> Iterator[tuple[Job, PrefectFuture[Result]]]:
    """The same with the ended task runs themselves, failed ones among them: the others go on."""
    ended: SimpleQueue[tuple[Job, PrefectFuture[Result]]] = SimpleQueue()

    def start(job: Job) -> None:
        submit(job).add_done_callback(lambda future: ended.put((job, future)))

    waiting, running = iter(jobs), 0
    while True:
        for job in islice(waiting, room - running):
            start(job)
            running += 1
        if not running:
            return
        job, future = ended.get()
        running -= 1
        yield job, future


def log_shard(what: str, started: float, device: str = "cpu") -> None:
    """Log in a shard's task run what was done and where; `started` by `time.monotonic()`."""
    where = f"{socket.gethostname()}, process {os.getpid()}, {device}"
    get_run_logger().info("%s, %.1f s on %s", what, time.monotonic() - started, where)
    # A Ray worker is ended together with its cluster, and what it has not sent by then is lost.
    APILogHandler().flush()


def _answers(address: str) -> bool:
    """Ray itself would try for minutes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


def _runtime_env() -> dict[str, Any]:
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    # Formats of log lines are variables of these names, not settings.
    settings |= {name: value for name, value in os.environ.items() if name.startswith("PREFECT_LOGGING_")}
    variables = {name: value for name, value in settings.items() if name.startswith(FORWARDED)}
    # The split of a sum over threads decides its last bits.
    variables |= {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
    return {"env_vars": variables, "py_modules": [str(ROOT / package) for package in PACKAGES]}
