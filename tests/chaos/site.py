"""What chaos happens to: the local stack with its files on S3, six kinds of process in it, and how each is killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from deploy.stack import StackSettings, current_settings, running_stack
from deploy.stack.control import recorded_state
from deploy.stack.processes import owned_processes
from tests.integration.deployments import Deployments
from tests.s3_server import S3Server

SERVERS = ("prefect", "mlflow", "s3")
KINDS = ("flow", "trainer", "worker", *SERVERS)
BUCKET = "chaos"
JOBS = {"flow": "prefect.engine", "trainer": "pipeline_lib.training"}
"""The module that each runs."""


@dataclass
class Site:
    """A running stack and its S3 server, which nothing but this restarts."""

    settings: StackSettings
    deployments: Deployments
    s3: S3Server
    s3_back: float | None = None
    """When the S3 server that was killed starts again (monotonic seconds)."""

    @property
    def store(self) -> str:
        """The folder of all stores."""
        return f"s3://{BUCKET}"

    def alive(self) -> dict[str, psutil.Process]:
        """The main process of each kind that can be killed now; a component that is starting cannot."""
        found: dict[str, psutil.Process] = {}
        components = (recorded_state(self.settings) or {}).get("components", {})
        pids = {name: one["pid"] for name, one in components.items() if one["status"] == "healthy"}
        if self.s3_back is None and self.s3.process:
            pids["s3"] = self.s3.process.pid
        for kind, pid in pids.items():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                if kind != "worker":
                    found[kind] = process
                    continue
                for below in process.children():  # Prefect's own worker, below the one that tells flows to stop
                    if "worker" in below.cmdline():
                        found[kind] = below
        return found | self.jobs()

    def jobs(self) -> dict[str, psutil.Process]:
        """The processes of the flow run and of its trainer, whoever their parent is."""
        found: dict[str, psutil.Process] = {}
        for process in owned_processes(self.settings, "worker"):
            with suppress(psutil.Error):
                command = process.cmdline()
                found |= {kind: process for kind, module in JOBS.items() if module in command}
        return found

    def kill(self, kind: str, process: psutil.Process, with_children: bool, pause_s: float) -> None:
        """SIGKILL a process, or it and all it started at once. A killed S3 server is back after `pause_s` seconds."""
        doomed = [process]
        with suppress(psutil.Error):
            doomed += process.children(recursive=True) if with_children else []
        for one in doomed:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)
        if kind == "s3":
            self.s3.kill()
            self.s3_back = time.monotonic() + pause_s

    def tend(self) -> None:
        """Start the S3 server again when its time has come."""
        if self.s3_back is not None and time.monotonic() >= self.s3_back:
            self.s3.start()
            self.s3_back = None


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """A stack in `folder` whose store and MLflow artifacts are on an S3 server of its own."""
    (folder / "s3" / BUCKET).mkdir(parents=True)
    (folder / "tmp").mkdir()
    s3 = S3Server(folder / "s3")
    s3.start()
    variables = s3.env() | {"PIPELINE_ARTIFACTS": f"s3://{BUCKET}/mlflow", "TMPDIR": str(folder / "tmp")}
    # rclone answers the request for a part of a file with the checksum of all of it (docker/workers.yaml).
    for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        variables[name] = "when_required"
    del variables["AWS_MAX_ATTEMPTS"]  # as many as a user's processes make
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with running_stack(folder / "stack") as env:
                deployments = Deployments(env)
                deployments.register("align/shapes")
                yield Site(current_settings(env), deployments, s3)
    finally:
        s3.kill()
