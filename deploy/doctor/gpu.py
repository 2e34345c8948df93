"""GPUs, their driver and memory, and whether the installed torch can use them."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from deploy.doctor.findings import Finding, error, ok, warning
from deploy.doctor.needs import needs_of
from deploy.doctor.surroundings import Surroundings
from deploy.stack.settings import POOL_VARIABLES, WORK_POOL

CHECK = "gpu"
QUERY = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"]
TIMEOUT_S = 10.0
CUDA_TORCH = "the Makefile's head shows how to install a CUDA build of torch"


@dataclass(frozen=True)
class Gpu:
    """As nvidia-smi has it; `memory` in bytes."""

    name: str
    driver: str
    memory: int


@dataclass(frozen=True)
class Torch:
    """CUDA version that torch was built for (empty: none), and whether it finds a GPU."""

    cuda: str
    sees_gpu: bool


def gpus(surroundings: Surroundings) -> Iterator[Finding]:
    """What is there, beside the preset's need."""
    needed = needs_of(surroundings.preset).gpu
    try:
        found = installed_gpus()
    except (OSError, subprocess.SubprocessError, ValueError) as problem:
        yield error(CHECK, f"nvidia-smi does not answer: {problem}", "reload the driver, or restart the machine")
        return
    torch = installed_torch() if found else Torch("", False)
    here = surroundings.variables.get(POOL_VARIABLES[1], "").strip() in ("", WORK_POOL)
    yield from judge(found, torch, surroundings.preset, needed, here)


def judge(gpus: list[Gpu], torch: Torch, preset: str, needed: int, here: bool) -> Iterator[Finding]:
    """`needed` bytes by the preset, 0 for no GPU at all; `here`: runs that want a GPU go to this machine's pool."""
    if not gpus:
        if not needed:
            yield ok(CHECK, f"none, and {preset} needs none")
        elif here:
            remedy = "install the NVIDIA driver, or send these runs elsewhere: PIPELINE_GPU_POOL=gpu make deploy"
            yield error(CHECK, f"none here, and {preset} needs {_gb(needed)} on one", remedy)
        else:
            yield ok(CHECK, "none here; runs that want one go to another pool: run the doctor there")
        return
    for gpu in gpus:
        what = f"{gpu.name}, driver {gpu.driver}, {_gb(gpu.memory)}"
        if gpu.memory < needed:
            remedy = "--param sharding=fsdp over several, adapter=lora, or a larger GPU"
            yield error(CHECK, f"{what}: the weights of {preset} alone need {_gb(needed)}", remedy)
        else:
            yield ok(CHECK, f"{what}; weights of {preset} need {_gb(needed)}, activations come on top")
    if not torch.cuda:
        yield error(CHECK, "the installed torch is built without CUDA", CUDA_TORCH)
    elif not torch.sees_gpu:
        what = f"torch is built for CUDA {torch.cuda} and finds no GPU with driver {gpus[0].driver}"
        yield error(CHECK, what, f"a newer driver, or a torch for an older CUDA: {CUDA_TORCH}")
    if len({gpu.name for gpu in gpus}) > 1:
        remedy = "CUDA_VISIBLE_DEVICES picks equal ones for a worker"
        yield warning(CHECK, "GPUs of different kinds: the slowest decides", remedy)


def installed_gpus() -> list[Gpu]:
    """By nvidia-smi; empty where there is none. Raises OSError, SubprocessError, ValueError where it fails."""
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, timeout=TIMEOUT_S)
    except FileNotFoundError:
        return []
    if done.returncode != 0:
        raise OSError((done.stderr or done.stdout).strip()[:200])
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    return [Gpu(name, driver, int(memory) * 2**20) for name, driver, memory in rows]


def installed_torch() -> Torch:
    """Loads torch, which takes seconds."""
    import torch

    return Torch(torch.version.cuda or "", torch.cuda.is_available())


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
