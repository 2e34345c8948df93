"""Training runs of tests: started as processes, interrupted, and what they left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from pipeline_lib.core.digest import file_sha256
from pipeline_lib.training.launch.launcher import PROGRAM, environment, launcher
from pipeline_lib.training.launch.spec import TrainSpec, write_spec


def start(spec: TrainSpec, processes: int = 1) -> subprocess.Popen[str]:
    """The run in one or several processes of its own."""
    path = Path(spec.run_dir, "spec.json")
    write_spec(path, spec)
    command = [*launcher(processes), str(path)]
    return subprocess.Popen(command, env=environment(processes), stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for its end, which must be a success."""
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said


def interrupt(process: subprocess.Popen[str]) -> str:
    """SIGTERM to one of the run's processes, which is enough: they agree to stop. Returns what they said."""
    children = psutil.Process(process.pid).children(recursive=True)
    ranks = [child for child in children if child.is_running() and PROGRAM in child.cmdline()]
    (ranks or [process])[0].send_signal(signal.SIGTERM)
    return process.communicate(timeout=240)[1]


def wait_for_steps(spec: TrainSpec, steps: int, process: subprocess.Popen[str]) -> None:
    """Return when the run has logged that many."""
    metrics = Path(spec.run_dir, "metrics.jsonl")
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= steps):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stop_in_step(number: int) -> Callable[[], bool]:
    """A stop signal that comes the `number`-th time that the trainer asks: once a step without accumulation."""
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked == number

    return stopping


def records(spec: TrainSpec) -> list[dict[str, Any]]:
    """The metrics that the run has logged, step by step."""
    path = Path(spec.run_dir, "metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def curve(spec: TrainSpec, name: str = "loss") -> list[float]:
    """One metric of every step."""
    return [record[name] for record in records(spec)]


def status(spec: TrainSpec) -> dict[str, str]:
    """How the program said that the run ended."""
    found: dict[str, str] = json.loads(Path(spec.run_dir, "status.json").read_text())
    return found


def saved(spec: TrainSpec) -> list[str]:
    """Names of its checkpoints."""
    return sorted(path.name for path in Path(spec.run_dir, "checkpoints").iterdir())


def weights(spec: TrainSpec) -> dict[str, str]:
    """Hashes of every file of the result."""
    root = Path(spec.run_dir, "model")
    return {str(path.relative_to(root)): file_sha256(path) for path in sorted(root.rglob("*")) if path.is_file()}
