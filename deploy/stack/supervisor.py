"""The process that keeps a stack's components running until it is told to stop (SIGTERM)."""

import fcntl
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any

from deploy import recovery
from deploy.stack.components import Component, components, servers
from deploy.stack.logs import ROTATE_EVERY_S, rotate
from deploy.stack.processes import die_with_parent, end_processes, owned_processes, signal_group
from deploy.stack.settings import ROOT, StackError, StackSettings, private_files

logger = logging.getLogger(__name__)

TICK_S = 0.2
PROBE_EVERY_S = 0.5
MAX_DELAY_S = 30.0
# A component that has run this long starts again at the shortest delay.
STEADY_S = 60.0
TIDY_EVERY_S = 15.0
PASSING = (OSError, StackError, subprocess.SubprocessError, KeyError, TypeError, ValueError)
"""What may be well again the next time: no space or memory for a process, a server that does not answer, or oddly."""


def restart_delay(failures: int) -> float:
    """Seconds to wait before the start that follows `failures` ends in a row: 1, 2, 4, ... at most 30."""
    return min(MAX_DELAY_S, 2.0 ** (failures - 1))


def has_supervisor(settings: StackSettings) -> bool:
    """Whether a supervisor, or an `up` that prepares for one, holds the stack's lock. It is freed however they end.

    Raises:
        StackError: the state folder cannot be used.
    """
    with _open_lock(settings) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def supervisor_lock(settings: StackSettings, timeout_s: float = 5.0) -> Iterator[None]:
    """Hold the stack's lock; waits out those who look for a moment whether it is free.

    Raises:
        StackError: a supervisor holds it, or the state folder cannot be used.
    """
    deadline = time.monotonic() + timeout_s
    with _open_lock(settings) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError(f"the stack in {settings.state} already has a supervisor") from None
                time.sleep(TICK_S)
        yield


def _open_lock(settings: StackSettings) -> IO[str]:
    try:
        with private_files(settings):
            settings.lock_file.parent.mkdir(parents=True, exist_ok=True)
            settings.logs.mkdir(exist_ok=True)
            return settings.lock_file.open("a")
    except OSError as error:
        raise StackError(
            f"the state folder {settings.state} cannot be used ({error.strerror}: {error.filename}): "
            "PIPELINE_STATE must name a folder that this user may write to"
        ) from error


class Supervised:
    """A component and the process that runs it at the moment."""

    def __init__(self, component: Component, settings: StackSettings) -> None:
        self.component = component
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.status = "waiting"
        self.restarts = 0
        self.last_exit: int | None = None
        self.started = 0.0
        self._failures = 0
        self._next_start = 0.0
        self._next_probe = 0.0

    def step(self, healthy: set[str]) -> None:
        """Start, probe or note the end of the process, whichever is due; `healthy` names the components that are."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._next_start and set(self.component.needs) <= healthy:
                self._start()
        elif (code := self.process.poll()) is not None:
            self._ended(code)
        elif self.status == "starting" and now >= self._next_probe:
            self._next_probe = now + PROBE_EVERY_S
            if self.component.healthy(self.started):
                self.status = "healthy"
                logger.info("%s is healthy after %.1f s", self.component.name, time.time() - self.started)

    def stop(self) -> None:
        """SIGTERM the component's process group, SIGKILL what is left after the grace, then do what follows a stop."""
        name = self.component.name
        if self.process is not None:
            logger.info("stopping %s", name)
            signal_group(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(self.component.grace_s)
            except subprocess.TimeoutExpired:
                logger.warning("%s did not stop within %.0f s: killing it", name, self.component.grace_s)
                signal_group(self.process.pid, signal.SIGKILL)
                self.process.wait()
        try:
            self._end_leftovers()
            self.component.after_stop()
        except PASSING as error:
            logger.error("after stopping %s: %s", name, error)
        self.process, self.status = None, "stopped"

    def record(self) -> dict[str, Any]:
        """The component's line in the state file."""
        return {
            "status": self.status,
            "pid": self.process.pid if self.process else None,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
            "started": self.started,
        }

    def _start(self) -> None:
        name = self.component.name
        try:
            # Two workers' flows must never write side by side, and a server's child would hold the port.
            if count := self._end_leftovers():
                logger.warning("ended %d processes that the previous %s had left behind", count, name)
            self.component.before_start()
            self.started = time.time()
            self.process = self._process()
        except PASSING as error:
            logger.error("cannot start %s yet: %s", name, error)
            self._postpone()
            return
        self.status = "starting"
        logger.info("started %s (process %d)", name, self.process.pid)

    def _process(self) -> subprocess.Popen[bytes]:
        with (self.settings.logs / f"{self.component.name}.log").open("ab") as log:
            return subprocess.Popen(
                self.component.command,
                cwd=ROOT,
                env=self.component.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own process group, to be signalled as a whole
                preexec_fn=die_with_parent(),
            )

    def _end_leftovers(self) -> int:
        return end_processes(lambda: owned_processes(self.settings, self.component.name), self.component.grace_s)

    def _ended(self, code: int) -> None:
        self.process, self.last_exit = None, code
        self.restarts += 1
        if time.time() - self.started > STEADY_S:
            self._failures = 0
        delay = self._postpone()
        how = f"by signal {-code}" if code < 0 else f"with exit status {code}"
        logger.error("%s ended %s: starting it again in %.0f s", self.component.name, how, delay)

    def _postpone(self) -> float:
        self._failures += 1
        delay = restart_delay(self._failures)
        self._next_start = time.monotonic() + delay
        self.status = "restarting"
        return delay


def write_state(settings: StackSettings, supervised: list[Supervised], previous: str) -> str:
    """Write the state file when it differs from `previous`; returns its text."""
    state = {
        "supervisor": os.getpid(),
        "prefect_port": settings.prefect_port,
        "mlflow_port": settings.mlflow_port,
        "components": {one.component.name: one.record() for one in supervised},
    }
    text = json.dumps(state, indent=1)
    if text == previous:
        return text
    try:
        temporary = settings.state_file.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(settings.state_file)
    except OSError as error:  # a full disk is no reason to end what runs
        logger.error("cannot write the state file: %s", error)
        time.sleep(1.0)  # not this line five times a second
        return previous
    return text


def supervise(settings: StackSettings) -> None:
    """Run the stack until SIGTERM or SIGINT, then stop the components in reverse order.

    Raises:
        StackError: another supervisor holds this stack.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopping = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    # A shell's `&` leaves SIGINT ignored, and that is inherited; a handler is reset to the default in the components.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with supervisor_lock(settings), private_files(settings):
        settings.logs.mkdir(parents=True, exist_ok=True)
        supervised = [Supervised(component, settings) for component in components(settings)]
        # A flow process can die, or its last words be lost, while the worker lives.
        watching = threading.Thread(target=recovery.watch, args=(servers(settings), TIDY_EVERY_S), daemon=True)
        watching.start()
        text, rotated = "", 0.0
        while not stopping:
            if time.monotonic() > rotated + ROTATE_EVERY_S:
                rotated = time.monotonic()
                rotate(settings.logs)
            for one in supervised:
                one.step({other.component.name for other in supervised if other.status == "healthy"})
            text = write_state(settings, supervised, text)
            time.sleep(TICK_S)
        for one in reversed(supervised):
            one.stop()
            text = write_state(settings, supervised, text)
        settings.state_file.unlink(missing_ok=True)
        logger.info("stopped")
