"""How the trainer is started: as one process, or as several, on one machine or more, by `accelerate launch`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline_lib.core.errors import ConfigError
from pipeline_lib.training.launch.nodes import ALONE, Machines

PROGRAM = "pipeline_lib.training"


def visible_gpus(variables: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> int:
    """Number of NVIDIA GPUs this process may use, without loading torch."""
    chosen = variables.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([part for part in chosen.split(",") if part.strip() not in ("", "-1")])
    return len([path for path in devices.glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdigit()])


def process_count(passes: int, gpus: int, machines: int = 1) -> int:
    """The most processes, one per GPU, that can share the `passes` forward passes of an optimizer step evenly.

    Over several machines, each with `gpus`: as many on each, at least one.
    """
    counts = range(machines, max(gpus, 1) * machines + 1, machines)
    return max((n for n in counts if passes % n == 0), default=machines)


def launcher(processes: int, place: Machines = ALONE) -> list[str]:
    """The command that starts this machine's share of the trainer; the specification's path is to be appended.

    One process needs no launcher, which would only hold torch in memory beside it.

    Raises:
        ConfigError: the machines cannot have as many of the `processes` each.
    """
    if processes % place.count:
        raise ConfigError(
            f"{processes} processes cannot be shared out evenly to {place.count} machines.",
            "Give a multiple as `processes`, or leave it empty for one per GPU.",
        )
    if processes == 1:
        return [sys.executable, "-m", PROGRAM]
    settings = {
        "num_processes": processes,
        "num_machines": place.count,
        "main_process_port": place.port,
        "mixed_precision": "no",  # the trainer decides, from its specification
        "dynamo_backend": "no",
        "num_cpu_threads_per_process": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    program = "pipeline_lib.training.launch.loopback"
    if place.count > 1:
        settings |= {"machine_rank": place.rank, "main_process_ip": place.host}
        program = "accelerate.commands.launch"
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", program, "--multi_gpu", *options, "-m", PROGRAM]


def environment(processes: int) -> dict[str, str]:
    """The trainer's environment: several processes without GPUs talk over gloo."""
    on_cpu = processes > 1 and visible_gpus() == 0
    return dict(os.environ) | ({"ACCELERATE_USE_CPU": "true"} if on_cpu else {})
