"""Who waits, for how long, and what becomes of a dead holder's lock."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline_lib.training.launch import job
from tasks import locks

HOLD = """
import sys, time
from tasks.locks import alone
with alone(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged; the state is the test's own."""
    lines: list[str] = []
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path))
    monkeypatch.setattr(locks, "get_run_logger", lambda: SimpleNamespace(info=lambda text, *_: lines.append(text)))
    monkeypatch.setattr(job, "POLL_SECONDS", 0.01)
    return lines


def test_a_second_run_waits_as_long_as_the_first_works(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(job, "GRACE_SECONDS", 0.0)  # how long a trainer without a parent may hold its run folder
    events: list[str] = []

    def second() -> None:
        with locks.alone("train-a"):
            events.append("second")

    with locks.alone("train-a"):
        waiting = threading.Thread(target=second)
        waiting.start()
        with locks.alone("train-b"):
            events.append("another question does not wait")
        while not said:
            time.sleep(0.01)
        time.sleep(0.2)
        events.append("first")
    waiting.join(60)
    assert events == ["another question does not wait", "first", "second"]
    assert len(said) == 1 and "waiting" in said[0]


def test_a_killed_holder_lets_go_at_once(said: list[str]) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, "train-a"], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    threading.Timer(0.2, holder.kill).start()
    with locks.alone("train-a"):
        assert holder.wait(60) == -9
    assert len(said) == 1
