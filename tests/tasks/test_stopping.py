"""Who is asked to stop: everything that was begun within, in whatever thread, and nothing else."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline_lib.training.launch import job
from tasks import locks
from tasks.stopping import asked_to_stop, stopped_together


def test_an_exception_of_any_kind_asks_the_threads_that_were_started_within() -> None:
    ended, asked = threading.Event(), []

    def wait() -> None:
        ended.wait(60)
        asked.append(asked_to_stop())

    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(contextvars.copy_context().run, wait)  # begun before
        with pytest.raises(KeyboardInterrupt), stopped_together():
            inner = pool.submit(contextvars.copy_context().run, wait)
            assert not asked_to_stop()
            raise KeyboardInterrupt
        assert not asked_to_stop(), "outside of it"
        ended.set()
        for future in (other, inner):
            future.result()
    assert sorted(asked) == [False, True]


def test_a_body_that_ends_well_asks_nobody() -> None:
    with stopped_together():
        within = contextvars.copy_context()
    assert not within.run(asked_to_stop)


def test_who_waits_for_another_run_stops_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path))
    monkeypatch.setattr(job, "POLL_SECONDS", 0.01)
    waits = threading.Event()
    monkeypatch.setattr(locks, "get_run_logger", lambda: SimpleNamespace(info=lambda *_: waits.set()))

    def second() -> None:
        with locks.alone("train-a"):
            raise AssertionError("the first still has it")

    with locks.alone("train-a"), ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt), stopped_together():
            waiting = pool.submit(contextvars.copy_context().run, second)
            assert waits.wait(60)
            raise KeyboardInterrupt
        assert isinstance(waiting.exception(60), job.Stopped)
