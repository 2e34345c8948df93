"""`python -m deploy.worker --pool gpu --type process --limit 1`: `prefect worker start` that ends its runs decently.

Told to stop (SIGTERM, what `docker stop` and systemd send), Prefect's process worker kills its flows at once: they
stay RUNNING, and so do their MLflow runs. Here the flows are told first. A flow has its trainer write a checkpoint,
closes its MLflow run and reports that it crashed; the same deployment, run again, continues from there.
Runs whose cancellation the worker has not heard of are ended, too (unwanted.py).
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from types import FrameType

import psutil

from deploy import unwanted
from deploy.stack.api import call
from deploy.stack.logins import prefect_headers
from deploy.stack.processes import die_with_parent
from deploy.stack.settings import PATIENCE, state_folder
from pipeline_lib.core.permissions import own

TICK_S = 0.2
ONE_S = 1.0
"""Signals within this time are one: the kernel sends a SIGTERM for every thread of a supervisor that dies."""


def tell_flows(worker: psutil.Process, told: set[int]) -> bool:
    """SIGTERM those children of the worker that have not been told; whether any is left."""
    left = False
    with contextlib.suppress(psutil.NoSuchProcess):
        for flow in worker.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                left = left or flow.status() != psutil.STATUS_ZOMBIE
                if flow.pid not in told:
                    flow.terminate()
                    told.add(flow.pid)
    return left


def main(arguments: list[str]) -> int:
    """Run the worker until it ends or SIGTERM or SIGINT arrives; a second one does not wait for flows."""
    received: list[float] = []

    def stop(number: int, _: FrameType | None) -> None:
        received.append(time.monotonic())

    os.umask(own(state_folder()))  # and of all its runs
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    command = [sys.executable, "-m", "prefect", "worker", "start", *arguments]
    # Its own session: a signal to this one's group must not reach it before its flows have ended.
    variables = PATIENCE | os.environ | {unwanted.WORKER_VARIABLE: str(os.getpid())}
    if api := os.environ.get("PREFECT_API_URL", "").rstrip("/"):
        login = prefect_headers()
        unwanted.watch_beside(lambda path, payload: call(f"{api}/{path}", payload, headers=login), api)
    process = subprocess.Popen(command, env=variables, start_new_session=True, preexec_fn=die_with_parent())
    worker = psutil.Process(process.pid)
    told: set[int] = set()
    while process.poll() is None:
        # It may take another run while it waits; that one is told, too.
        if received and (received[-1] - received[0] > ONE_S or not tell_flows(worker, told)):
            process.terminate()
            break
        time.sleep(TICK_S)
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
