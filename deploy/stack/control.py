"""What people and tests do with a stack: start it, stop it, look at it, run something against it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from deploy.stack import api
from deploy.stack.processes import end_processes, free_port, owned_processes, require_free_ports
from deploy.stack.settings import (
    DEFAULT_PORTS,
    PORT_VARIABLES,
    ROOT,
    WORK_POOL,
    StackError,
    StackSettings,
    client_environment,
    configured_port,
    private_files,
    process_environment,
    state_folder,
)
from deploy.stack.supervisor import has_supervisor, supervisor_lock

# On a small machine that is busy with something else both servers take most of a minute.
UP_TIMEOUT_S = 300.0
DOWN_TIMEOUT_S = 180.0
ATTEMPTS = 3


def recorded_state(settings: StackSettings) -> dict[str, Any] | None:
    """What the live supervisor wrote last, None when there is no supervisor. Empty while it has not written yet."""
    if not has_supervisor(settings):
        return None
    try:
        state: dict[str, Any] = json.loads(settings.state_file.read_text())
    except FileNotFoundError:
        return {}
    return state if psutil.pid_exists(state["supervisor"]) else {}


def current_settings(variables: Mapping[str, str] = os.environ) -> StackSettings:
    """The stack that `variables` name, with the ports it runs on, else the configured ports, else the defaults.

    Raises:
        StackError: a port variable is no port, or names another port than the running stack uses.
    """
    wanted = {server: configured_port(server, variables) for server in PORT_VARIABLES}
    ports = {server: wanted[server] or DEFAULT_PORTS[server] for server in PORT_VARIABLES}
    settings = StackSettings(state_folder(variables), ports["prefect"], ports["mlflow"])
    state = recorded_state(settings)
    if not state:
        return settings
    for server, port in wanted.items():
        if port not in (None, state[f"{server}_port"]):
            raise StackError(
                f"the stack in {settings.state} runs its {server} server on port {state[f'{server}_port']}, "
                f"not on {port}: unset {PORT_VARIABLES[server]}, or `make down` first"
            )
    return StackSettings(settings.state, state["prefect_port"], state["mlflow_port"])


def environment() -> dict[str, str]:
    """Variables that point a process at this checkout's (or `PIPELINE_STATE`'s) stack; lay them over `os.environ`."""
    return client_environment(current_settings())


def up(settings: StackSettings, timeout_s: float = UP_TIMEOUT_S) -> bool:
    """Start the stack and wait until every component is healthy; returns False when it ran already.

    Raises:
        StackError: a port is taken, a component keeps ending, or the time is over. The stack is then stopped again.
    """
    started = recorded_state(settings) is None
    if started:
        with supervisor_lock(settings):
            end_processes(lambda: owned_processes(settings), grace_s=15.0)  # what a killed supervisor may have left
            require_free_ports(settings)
        _launch_supervisor(settings)
    try:
        _wait_until_healthy(settings, timeout_s)
    except StackError:
        if started:
            down(settings)
        raise
    return started


def down(settings: StackSettings) -> bool:
    """Stop the stack and whatever it started; returns False when nothing ran.

    Raises:
        StackError: the supervisor does not end.
    """
    while (state := recorded_state(settings)) == {}:  # it starts just now
        time.sleep(0.1)
    if state:
        os.kill(state["supervisor"], signal.SIGTERM)
        deadline = time.monotonic() + DOWN_TIMEOUT_S
        while recorded_state(settings) is not None:
            if time.monotonic() > deadline:
                raise StackError(
                    f"the supervisor (process {state['supervisor']}) has not stopped after {DOWN_TIMEOUT_S:.0f} s: "
                    f"see {settings.logs / 'supervisor.log'}"
                )
            time.sleep(0.1)
    leftovers = end_processes(lambda: owned_processes(settings), grace_s=15.0)
    settings.state_file.unlink(missing_ok=True)
    return bool(state or leftovers)


def status(settings: StackSettings) -> list[dict[str, Any]]:
    """One row per component: name, status, pid, restarts, up_s (seconds), memory (bytes, all its processes), address.

    Empty when the stack is down. A server that runs but does not answer now has the status `not answering`.
    """
    state = recorded_state(settings) or {}
    addresses = {"prefect": settings.prefect_url, "mlflow": settings.mlflow_url, "worker": f"work pool {WORK_POOL}"}
    health = {"prefect": f"{settings.prefect_url}/api/health", "mlflow": f"{settings.mlflow_url}/health"}
    rows = []
    for name, record in state.get("components", {}).items():
        condition = record["status"]
        if condition == "healthy" and name in health and not api.answers(health[name]):
            condition = "not answering"
        memory = 0
        for process in owned_processes(settings, name):
            try:
                memory += process.memory_info().rss
            except psutil.Error:
                continue
        row = {"name": name, "status": condition, "pid": record["pid"], "restarts": record["restarts"]}
        row |= {"up_s": time.time() - record["started"], "memory": memory, "address": addresses[name]}
        rows.append(row)
    return rows


@contextmanager
def running_stack(
    state: Path, prefect_port: int | None = None, mlflow_port: int | None = None, timeout_s: float = UP_TIMEOUT_S
) -> Iterator[dict[str, str]]:
    """A stack of its own in the folder `state`, on free ports unless told; yields the full environment for its users.

    Raises:
        StackError: it does not start.
    """
    settings = StackSettings(state.resolve(), prefect_port or free_port(), mlflow_port or free_port())
    try:
        up(settings, timeout_s)
        yield process_environment(settings)
    finally:
        down(settings)


def tail(path: Path, lines: int) -> str:
    """The last lines of a log, from its last 64 KiB."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def _launch_supervisor(settings: StackSettings) -> None:
    """Start the supervisor in a session of its own and wait until it holds the lock."""
    log_path = settings.logs / "supervisor.log"
    ports = {
        PORT_VARIABLES["prefect"]: str(settings.prefect_port),
        PORT_VARIABLES["mlflow"]: str(settings.mlflow_port),
    }
    with private_files(settings), log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.stack", "supervise"],
            cwd=ROOT,
            env=process_environment(settings) | ports,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    while not (state := recorded_state(settings)):
        if process.poll() is not None and state is None:
            raise StackError(f"the supervisor ended at once:\n{tail(log_path, 10)}")
        time.sleep(0.1)


def _wait_until_healthy(settings: StackSettings, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    seen = time.monotonic()
    while True:
        state = recorded_state(settings)
        if state is not None:
            seen = time.monotonic()
        elif time.monotonic() > seen + 5:  # another `up` may be about to launch it
            raise StackError(f"the supervisor ended: see {settings.logs / 'supervisor.log'}")
        records = (state or {}).get("components", {})
        waiting = [name for name, record in records.items() if record["status"] != "healthy"]
        if records and not waiting:
            return
        for name in waiting:
            log = settings.logs / f"{name}.log"
            if records[name]["restarts"] >= ATTEMPTS:
                raise StackError(f"{name} ended {ATTEMPTS} times while starting; the end of {log}:\n{tail(log, 20)}")
        if time.monotonic() > deadline:
            raise StackError(f"not healthy after {timeout_s:.0f} s: {', '.join(waiting)}; see {settings.logs}")
        time.sleep(0.2)
