"""How the trainer is started: as one process, or as several by `accelerate launch`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

PROGRAM = "pipeline_lib.training"


def visible_gpus(variables: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> int:
    """Number of NVIDIA GPUs this process may use, without loading torch."""
    chosen = variables.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([part for part in chosen.split(",") if part.strip() not in ("", "-1")])
    return len([path for path in devices.glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdigit()])


def process_count(passes: int, gpus: int) -> int:
    """The most processes, one per GPU, that can share the `passes` forward passes of an optimizer step evenly."""
    return max((n for n in range(1, max(gpus, 1) + 1) if passes % n == 0), default=1)


def launcher(processes: int) -> list[str]:
    """The command that starts the trainer; the specification's path is to be appended.

    One process needs no launcher, which would only hold torch in memory beside it.
    """
    if processes == 1:
        return [sys.executable, "-m", PROGRAM]
    settings = {
        "num_processes": processes,
        "num_machines": 1,
        "main_process_port": 0,
        "mixed_precision": "no",  # the trainer decides, from its specification
        "dynamo_backend": "no",
        "num_cpu_threads_per_process": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *options, "-m", PROGRAM]


def environment(processes: int) -> dict[str, str]:
    """The trainer's environment: several processes without GPUs talk over gloo."""
    on_cpu = processes > 1 and visible_gpus() == 0
    return dict(os.environ) | ({"ACCELERATE_USE_CPU": "true"} if on_cpu else {})
