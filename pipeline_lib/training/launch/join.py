"""`python -m pipeline_lib.training.launch.join <scratch>`: take part, on another machine, in the trainings of a flow.

The machine of rank 0 runs the flow. In the shared folder of a training run it announces each start of the trainer; the
other machines, where this program waits, start their share of its processes. It runs until SIGTERM, which a trainer
answers as on the first machine: all processes agree on a checkpoint and stop.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.core.errors import PipelineError, TrainingError
from pipeline_lib.core.json_files import read_json
from pipeline_lib.core.permissions import umask_of
from pipeline_lib.training.launch.launcher import environment, launcher
from pipeline_lib.training.launch.nodes import REMEDY, Machines, machines
from pipeline_lib.training.launch.sigterm import asked_to_stop
from pipeline_lib.training.launch.spec import LAUNCH, SPEC, USER_ERROR

POLL_SECONDS = 0.5
GRACE_SECONDS = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """A start of the trainer in `run_dir` with so many processes over all machines; `id` tells starts apart."""

    id: str
    processes: int
    run_dir: Path


def announced(scratch: Path) -> list[Launch]:
    """What the first machine wants started, or has running."""
    found = []
    for path in sorted(scratch.glob(f"*/{LAUNCH}")):
        with suppress(TrainingError, KeyError, TypeError, ValueError):  # withdrawn, or not yet whole, while we look
            said = read_json(path, TrainingError, "Start the training again.")
            found.append(Launch(str(said["id"]), int(said["processes"]), path.parent))
    return found


def join(scratch: Path, place: Machines, stopping: Callable[[], bool]) -> None:
    """Take part in every training below `scratch` until `stopping()`."""
    tried: set[str] = set()
    while not stopping():
        time.sleep(POLL_SECONDS)
        for launch in announced(scratch):
            if launch.id not in tried:
                tried.add(launch.id)
                _take_part(launch, scratch, place, stopping)


def _take_part(launch: Launch, scratch: Path, place: Machines, stopping: Callable[[], bool]) -> None:
    """Run this machine's processes to their end, or until the first machine has given up, or `stopping()`."""
    logger.info("joining %s as machine %d of %d", launch.run_dir.name, place.rank, place.count)
    tether = [sys.executable, "-m", "pipeline_lib.training.launch.tether", str(os.getpid())]
    command = [*tether, *launcher(launch.processes, place), str(launch.run_dir / SPEC)]
    with (launch.run_dir / f"trainer-{place.rank}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment(launch.processes),
        )
    try:
        while process.poll() is None and launch in announced(scratch) and not stopping():
            time.sleep(POLL_SECONDS)
    finally:
        _end(process)
    logger.info("left %s", launch.run_dir.name)


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM (the trainers checkpoint), after a while SIGKILL, to everything that was started."""
    deadline = time.monotonic() + GRACE_SECONDS
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(arguments: list[str]) -> int:
    """Join until SIGTERM; returns the exit code."""
    try:
        place = machines()
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        return USER_ERROR
    if len(arguments) != 1 or place.rank == 0:
        sys.stderr.write(f"usage: python -m pipeline_lib.training.launch.join <scratch>\n{REMEDY}\n")
        return USER_ERROR
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.umask(umask_of(Path(arguments[0]).resolve().parent))  # the state's folder, which the machines share
    join(Path(arguments[0]), place, asked_to_stop())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
