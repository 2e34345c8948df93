"""Decode workers: the same pixels as in this process, whatever starts them, and what happens when one dies."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline_lib.core.errors import ConfigError, ScoringError
from pipeline_lib.scoring import decode
from pipeline_lib.scoring.decode import PROCESS_PIXELS, DecodeWorkers, workers_for
from pipeline_lib.scoring.decode_worker import prepare
from pipeline_lib.scoring.preprocess import CentreCrop, Letterbox, Preprocess
from tests.pipeline_lib.scoring.conftest import picture
from tests.pipeline_lib.scoring.deadly import Deadly
from tests.pipeline_lib.scoring.test_stage import png

RECIPES: list[Preprocess] = [CentreCrop(32, "even"), CentreCrop(32, "down"), Letterbox(32, False)]


def same(one: object, other: object) -> bool:
    assert isinstance(one, list) and isinstance(other, list)
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_worker_prepares_as_this_process_does() -> None:
    workers = DecodeWorkers(2)
    contents = [png(picture(36 + i, 36, i)) for i in range(12)]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda content: workers.prepare(content, RECIPES), contents))
    assert all(same(answer, prepare(content, RECIPES)) for answer, content in zip(answers, contents, strict=True))
    first = answers[0]
    assert isinstance(first, list) and first[0] is first[1] is not first[2], "recipes that agree share the array"
    broken = workers.prepare(contents[0][:60], RECIPES)
    assert isinstance(broken, str) and broken == prepare(contents[0][:60], RECIPES)
    assert "cannot identify" in str(workers.prepare(b"text", RECIPES))
    assert isinstance(workers.prepare(contents[0], RECIPES), list)
    workers.close()


def test_a_dead_worker_is_replaced_and_its_image_tried_again(tmp_path: Path) -> None:
    workers = DecodeWorkers(1)
    fuse = tmp_path / "fuse"
    fuse.touch()
    content = png(picture(40, 36, 0))
    assert same(workers.prepare(content, [Deadly(str(fuse), once=True)]), [np.full(3, 40)])
    assert not fuse.exists()
    fuse.touch()
    with pytest.raises(ScoringError, match="exit code 7"):
        workers.prepare(content, [Deadly(str(fuse), once=False)])
    fuse.unlink()
    assert same(workers.prepare(content, [Deadly(str(fuse), once=False)]), [np.full(3, 40)]), "the pool goes on"
    workers.close()


def test_a_worker_that_answers_nonsense_is_an_error_and_nothing_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tmp_path / "opened"
    payload = pickle.dumps(Trap(opened))
    pickle.loads(payload)
    assert opened.exists(), "it would show"
    opened.unlink()
    answer = f"import os; os.read(0, 1); os.write(0, {payload!r} + bytes(9)); os.read(0, 1_000_000)"
    monkeypatch.setattr(decode, "COMMAND", (sys.executable, "-I", "-c", answer))
    workers = DecodeWorkers(1)
    with pytest.raises(ScoringError, match=r"Two decode processes failed on an image of 7 bytes.* is not JSON"):
        workers.prepare(b"content", RECIPES)
    assert not opened.exists()
    workers.close()


class Trap:
    """Unpickling it creates the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def run_script(folder: Path, text: str) -> str:
    """Its output; the script is `__main__`, has no guard, and must run once."""
    script = folder / "script.py"
    script.write_text(f"print('started', flush=True)\n{text}")
    environment = {**os.environ, "PYTHONPATH": str(decode._ROOT)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=environment)
    started, rest = done.stdout.split("\n", 1)
    assert started == "started" and "started" not in rest
    return rest


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Killed, so that nothing can be cleaned up; and started by a thread that is not the main one."""
    pids = run_script(
        tmp_path,
        "import os, signal, threading\n"
        "from pipeline_lib.scoring.decode import shared_workers\n"
        "def work():\n"
        "    workers = shared_workers(2)\n"
        "    assert workers is shared_workers(2)\n"
        "    assert 'cannot identify' in workers.prepare(b'', [])\n"
        "    print(*(w._process.pid for w in (workers._idle.get(), workers._idle.get())), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "threading.Thread(target=work).start()\n",
    ).split()
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(_alive(int(pid)) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def test_daemonic_and_forked_processes_have_workers_of_their_own(tmp_path: Path) -> None:
    said = run_script(
        tmp_path,
        "import multiprocessing\n"
        "from pipeline_lib.scoring.decode import shared_workers\n"
        "workers = shared_workers(1)\n"
        "def work():\n"
        "    assert shared_workers(1) is not workers\n"
        "    print('cannot identify' in shared_workers(1).prepare(b'', []), flush=True)\n"
        "daemon = multiprocessing.get_context('fork').Process(target=work, daemon=True)\n"
        "daemon.start()\n"
        "daemon.join()\n"
        "print(daemon.exitcode, 'cannot identify' in workers.prepare(b'', []))\n",
    )
    assert said == "True\n0 True\n"


def _alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(decode.SETTING, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    assert workers_for(PROCESS_PIXELS - 1) == 0
    assert workers_for(PROCESS_PIXELS) == 3
    assert workers_for(1, 2) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert workers_for(PROCESS_PIXELS) == 1
    monkeypatch.setenv(decode.SETTING, "5")
    assert workers_for(1) == 5
    assert workers_for(PROCESS_PIXELS, 0) == 0
    for wrong in ("many", "-1"):
        monkeypatch.setenv(decode.SETTING, wrong)
        with pytest.raises(ConfigError, match=wrong):
            workers_for(1)
