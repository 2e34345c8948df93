"""One at a time on this machine: runs that ask the same question at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging import get_run_logger

from pipeline_lib.training.launch.job import acquired
from tasks.settings import state_place
from tasks.stopping import asked_to_stop


@contextmanager
def alone(question: str) -> Iterator[None]:
    """Only one process of this machine is within the context of a question, such as `train-<key>`; others wait.

    They wait as long as the holder lives: it does what they would do, and they then find it done. The lock is a file's
    (flock), which the kernel lets go of when the holder dies, however that happens. The file stays: a lock on a file
    that is removed does not keep out whoever makes it anew.
    """
    with (state_place("locks") / question).open("w") as lock:
        if not acquired(lock, 0.0):
            get_run_logger().info("another run of this machine is at %s; waiting for it", question)
            acquired(lock, None, asked_to_stop)
        yield
