"""Decoding and preparing images in processes of their own, beside the one that computes.

Pillow and NumPy give the interpreter lock back for long stretches, not for all of them, and a thread that waits for it
holds up the next kernel. A worker process takes encoded bytes and recipes and answers with pixels (`decode_worker`).
Neither what is asked (`decode_request`) nor the answer (`decode_answer`) is pickled.
It is an ordinary subprocess, neither forked nor made by multiprocessing: that is safe beside torch's threads and CUDA,
imports nothing of the caller's `__main__`, and works in daemonic processes, Ray workers and threads of task runs.
"""

from __future__ import annotations

import atexit
import os
import queue
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from pipeline_lib.core.errors import ConfigError, ScoringError
from pipeline_lib.scoring.decode_answer import MalformedAnswerError, read_answer
from pipeline_lib.scoring.decode_request import write_request

if TYPE_CHECKING:
    from pipeline_lib.scoring.preprocess import Pixels, Preprocess

SETTING = "PIPELINE_DECODE_WORKERS"
MOST = 32
GRACE_SECONDS = 5.0
PROCESS_PIXELS = 100_000_000
"""About ten seconds of decoding on one core. A worker takes three to start, so less than this is done in threads."""

COMMAND = (sys.executable, "-m", "pipeline_lib.scoring.decode_worker")
_ROOT = Path(__file__).resolve().parents[2]
_FAILED = (EOFError, OSError, MalformedAnswerError)


def workers_for(pixels: int, asked: int | None = None) -> int:
    """How many worker processes a job gets; 0 means threads of this process.

    Args:
        pixels: of all images of the job together.
        asked: this many, whatever the job's size. None: the environment variable PIPELINE_DECODE_WORKERS where it is
            set, else one per core but one, for jobs of at least PROCESS_PIXELS.

    Raises:
        ConfigError: a negative number, or an environment variable that is none.
    """
    stated = os.environ.get(SETTING, "")
    if asked is None and stated:
        asked = int(stated) if stated.isdecimal() else -1
    if asked is None:
        cores = len(os.sched_getaffinity(0))
        asked = min(max(cores - 1, 1), MOST) if pixels >= PROCESS_PIXELS else 0
    if asked < 0:
        raise ConfigError(
            f"{stated or asked} is not a number of decode workers.", f"Give {SETTING} or decode_workers 0 or more."
        )
    return asked


class DecodeWorkers:
    """Worker processes for any number of threads. Each answers one request at a time, whoever asks."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(_Worker())

    def prepare(self, content: bytes, recipes: Sequence[Preprocess]) -> list[Pixels] | str:
        """`decode_worker.prepare` in one of the processes, waiting for one that is free.

        A process that dies or answers nonsense is replaced and its image tried once more.

        Raises:
            ScoringError: the second process failed too.
        """
        worker = self._idle.get()
        try:
            try:
                return worker.ask(content, recipes)
            except _FAILED:
                worker.close()
                worker = _Worker()
                return worker.ask(content, recipes)
        except _FAILED as error:
            code = worker.close()
            worker = _Worker()
            raise ScoringError(
                f"Two decode processes failed on an image of {len(content)} bytes: {error}; exit code {code}.",
                "Read what they wrote to stderr. A negative code is a signal, -9 mostly too little memory.",
            ) from error
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the processes; nothing may be asked any more."""
        for _ in range(self.count):
            self._idle.get().close()


class _Worker:
    """One process and the socket to it. It ends when the socket closes, so it cannot outlive this process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # A worker computes on one core; the others have workers of their own.
        paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        with theirs:
            self._process = subprocess.Popen(COMMAND, stdin=theirs.fileno(), stdout=theirs.fileno(), env=environment)
        with ours:
            self._stream = ours.makefile("rwb")

    def ask(self, content: bytes, recipes: Sequence[Preprocess]) -> list[Pixels] | str:
        write_request(self._stream, content, recipes)
        return read_answer(self._stream, recipes)

    def close(self) -> int:
        """Stop the process; its exit code."""
        with suppress(OSError):  # it is dead already, and what was not sent yet does not matter
            self._stream.close()
        try:
            return self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


_lock = Lock()
_shared: dict[int, list[DecodeWorkers]] = {}


def shared_workers(count: int) -> DecodeWorkers:
    """This process's `count` workers: started by the first call, kept until the process ends."""
    with _lock:
        own = _shared.setdefault(os.getpid(), [])  # after a fork, the parent's workers are not ours to ask
        for workers in own:
            if workers.count == count:
                return workers
        workers = DecodeWorkers(count)
        own.append(workers)
        return workers


@atexit.register
def _close() -> None:
    for workers in _shared.pop(os.getpid(), []):
        workers.close()
