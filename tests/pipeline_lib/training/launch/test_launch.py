"""Several processes by `accelerate launch`: the same curve, the same checkpoints, and nobody left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.training.launch.launcher import environment, launcher, process_count, visible_gpus
from pipeline_lib.training.launch.spec import TrainSpec, write_spec
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.training.runs import curve, finish, interrupt, saved, start, status, wait_for_steps

CONFIG = TrainConfig(
    method="diffusion-dpo",
    adapter="full",
    beta=100.0,
    steps=50,
    batch_size=4,
    gradient_accumulation=2,
    learning_rate=1e-4,
    prompt_dropout=0.2,
    checkpoint_every=1000,
)
METHODS: dict[str, dict[str, Any]] = {
    "diffusion-dpo": {},
    "dedpo": {},
    "adaptive-dpo": {"adapter": "lora", "ema_decays": (0.9, 0.5), "learning_rate": 1e-3},
}


@pytest.fixture
def spec(new_run: Callable[..., TrainSpec]) -> Callable[..., TrainSpec]:
    return partial(new_run, CONFIG)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_give_the_curve_of_one(method: str, spec: Callable[..., TrainSpec]) -> None:
    one, two = (spec(name, method=method, **METHODS[method]) for name in ("one", "two"))
    train(one)
    finish(start(two, 2))
    assert len(curve(one)) == 50
    assert curve(two) == pytest.approx(curve(one), abs=1e-4)


@pytest.mark.slow
def test_two_processes_are_two_and_stop_and_continue_as_one(spec: Callable[..., TrainSpec]) -> None:
    odd = spec("odd", gradient_accumulation=3)
    start(odd, 2).communicate(timeout=240)
    assert status(odd)["problem"].startswith("2 processes cannot share the 3 forward passes")

    one, two = spec("one"), spec("two")
    train(one)
    process = start(two, 2)
    wait_for_steps(two, 5, process)
    interrupt(process)
    assert status(two) == {"status": "interrupted"}
    done = len(curve(two))
    assert saved(two) == [f"step-{done:06d}"]
    assert 5 <= done < CONFIG.steps
    assert train(two) == "done"
    assert curve(two) == pytest.approx(curve(one), abs=1e-4)


JOB = """
import json, sys
from pathlib import Path
from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.store import open_dataset
from pipeline_lib.training.launch import job
from pipeline_lib.training.launch.spec import read_spec
spec, scratch = read_spec(Path(sys.argv[1])), Path(sys.argv[2])
job.train(str(scratch), spec.model, spec.train, open_dataset(spec.encoded), open_dataset(spec.labels), scratch,
          processes=int(sys.argv[3]))
"""


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_parent_leaves_no_trainer_and_a_checkpoint(
    processes: int, spec: Callable[..., TrainSpec], tmp_path: Path
) -> None:
    job = spec("job", steps=100_000)
    write_spec(Path(job.run_dir, "spec.json"), job)
    command = [sys.executable, "-c", JOB, str(Path(job.run_dir, "spec.json")), str(tmp_path / "scratch")]
    parent = subprocess.Popen([*command, str(processes)])
    try:
        deadline = time.monotonic() + 120
        while not (found := [*tmp_path.glob("scratch/*/metrics.jsonl")]) or found[0].read_bytes().count(b"\n") < 3:
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        trainers = psutil.Process(parent.pid).children(recursive=True)
        assert len([t for t in trainers if "pipeline_lib.training" in t.cmdline()]) >= processes
        open_to = {
            socket.laddr[0] for t in trainers for socket in t.net_connections("inet") if socket.status == "LISTEN"
        }
        assert open_to == ({"127.0.0.1"} if processes > 1 else set())
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(trainers, timeout=60)
    assert not alive
    (run_dir,) = (tmp_path / "scratch").iterdir()
    assert list(run_dir.glob("checkpoints/step-*/state.json"))


def test_gpus_are_counted_without_torch(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert visible_gpus({}, tmp_path) == 2
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "3"}, tmp_path) == 1
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == 0


@pytest.mark.parametrize(("passes", "gpus", "processes"), [(1, 8, 1), (8, 8, 8), (6, 4, 3), (4, 0, 1), (7, 2, 1)])
def test_as_many_processes_as_can_share_the_work_evenly(passes: int, gpus: int, processes: int) -> None:
    assert process_count(passes, gpus) == processes


def test_one_process_needs_no_launcher() -> None:
    assert launcher(1) == [sys.executable, "-m", "pipeline_lib.training"]
    assert environment(1) == dict(os.environ)
