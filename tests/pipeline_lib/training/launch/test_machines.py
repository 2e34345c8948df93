"""One training over two machines, here two launchers on loopback: the bytes of two processes on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from deploy.stack.processes import free_port
from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.training.launch.join import announced
from pipeline_lib.training.launch.launcher import launcher, process_count
from pipeline_lib.training.launch.nodes import ALONE, COUNT, MAIN, RANK, Machines, machines
from pipeline_lib.training.launch.spec import TrainSpec, write_spec
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.training.launch.test_launch import JOB
from tests.pipeline_lib.training.runs import curve

CONFIG = TrainConfig(
    method="diffusion-dpo",
    adapter="full",
    beta=100.0,
    steps=10,
    batch_size=4,
    gradient_accumulation=2,
    learning_rate=1e-4,
    checkpoint_every=1000,
)


def test_a_machines_place_among_others() -> None:
    assert machines({}) == machines({COUNT: "1"}) == ALONE
    assert machines({COUNT: "2", RANK: "1", MAIN: "node-0:29500"}) == Machines(2, 1, "node-0", 29500)
    for wrong in ({RANK: "2"}, {RANK: ""}, {MAIN: "node-0"}, {MAIN: ":29500"}, {MAIN: "node-0:0"}, {COUNT: "two"}):
        with pytest.raises(ConfigError, match="name no machine among several"):
            machines({COUNT: "2", RANK: "1", MAIN: "node-0:29500"} | wrong)


def test_processes_are_shared_out_to_machines() -> None:
    assert process_count(128, 8, machines=4) == 32
    assert process_count(12, 4, machines=2) == 6
    assert process_count(2, 0, machines=2) == 2
    command = launcher(6, Machines(2, 1, "node-0", 29500))
    options = dict(pairwise(command))
    assert {name: options[f"--{name}"] for name in ("num_processes", "num_machines", "machine_rank")} == {
        "num_processes": "6",
        "num_machines": "2",
        "machine_rank": "1",
    }
    assert (options["--main_process_ip"], options["--main_process_port"]) == ("node-0", "29500")
    with pytest.raises(ConfigError, match="3 processes cannot be shared out evenly to 2 machines"):
        launcher(3, Machines(2, 0, "node-0", 29500))


def test_the_first_machine_does_not_join() -> None:
    environment = os.environ | {COUNT: "2", RANK: "0", MAIN: "127.0.0.1:29500"}
    command = [sys.executable, "-m", "pipeline_lib.training.launch.join", "/nowhere"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and f"{RANK} to 0 on the one whose worker runs the flow" in done.stderr


def test_what_is_announced(tmp_path: Path) -> None:
    for name, text in {"one": '{"id": "a", "processes": 2}', "half": '{"id": "b", "pro'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "launch.json").write_text(text)
    (launch,) = announced(tmp_path)
    assert (launch.id, launch.processes, launch.run_dir) == ("a", 2, tmp_path / "one")


def start_job(spec: TrainSpec, scratch: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """The training job in a process of its own, with 2 processes in all."""
    path = Path(spec.run_dir, "spec.json")
    write_spec(path, spec)
    return subprocess.Popen([sys.executable, "-c", JOB, str(path), str(scratch), "2"], env=os.environ | variables)


def result(process: subprocess.Popen[bytes], scratch: Path) -> Dataset:
    """What the job has published when it ends."""
    assert process.wait(280) == 0
    (manifest,) = scratch.glob("model/*/manifest.json")
    return open_dataset(str(manifest.parent))


@contextmanager
def second_machine(scratch: Path) -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """The environment of the first of two machines, and the program that joins it from the other."""
    scratch.mkdir()
    place = {COUNT: "2", MAIN: f"127.0.0.1:{free_port()}"}
    command = [sys.executable, "-m", "pipeline_lib.training.launch.join", str(scratch)]
    other = subprocess.Popen(command, env=os.environ | place | {RANK: "1"}, stderr=subprocess.PIPE, text=True)
    try:
        yield place | {RANK: "0"}, other
    finally:
        other.terminate()
        other.wait(120)


@pytest.mark.slow
def test_two_machines_give_the_bytes_of_one(new_run: Callable[..., TrainSpec], tmp_path: Path) -> None:
    store, shared = tmp_path / "alone-store", tmp_path / "shared"
    alone = result(start_job(new_run(CONFIG, "alone"), store, {}), store)
    with second_machine(shared) as (first, other):
        both = result(start_job(new_run(CONFIG, "both"), shared, first), shared)
    said = other.communicate()[1]
    assert other.returncode == 0 and said.count("as machine 1 of 2") == said.count("left") == 1, said
    assert both.key == alone.key and both.digest == alone.digest
    one = new_run(CONFIG, "one")
    train(one)
    with both.open("metrics.jsonl") as file:
        found = [json.loads(line)["loss"] for line in file]
    assert found == pytest.approx(curve(one), abs=1e-4)


@pytest.mark.slow
def test_a_trainer_killed_on_the_second_machine_costs_no_step(
    new_run: Callable[..., TrainSpec], tmp_path: Path
) -> None:
    """Both start again from the newest checkpoint, and end in the bytes of an undisturbed run."""
    config = replace(CONFIG, steps=60, checkpoint_every=5)
    store, shared = tmp_path / "alone-store", tmp_path / "shared"
    alone = result(start_job(new_run(config, "alone"), store, {}), store)
    with second_machine(shared) as (first, other):
        job = start_job(new_run(config, "both"), shared, first)
        deadline = time.monotonic() + 200
        while not list(shared.glob("*/checkpoints/step-*/state.json")):
            assert job.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        for process in psutil.Process(other.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "LOCAL_RANK" in process.environ():
                    process.kill()
        disturbed = result(job, shared)
    assert other.communicate()[1].count("as machine 1 of 2") == 2
    assert disturbed.digest == alone.digest
