"""Checkpoints: everything a run needs to continue exactly, as safetensors and JSON, published atomically.

`<run_dir>/checkpoints/step-000200/` holds `state.json` (written last, with the hash of every other file, and of the
rest of itself), `trainable.safetensors`, `optimizer.safetensors`, and where they exist `reference.safetensors` (after
a refresh) and `annotator-<i>.safetensors`. Order and noise of the pairs follow from the step alone.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline_lib.core.digest import file_sha256
from pipeline_lib.core.disk import space
from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.core.json_files import read_json

_NAME = re.compile(r"step-(\d{6,})")
_STATE = "state.json"
_VERSION = 1
_DIGEST = "digest"
"""Of the rest of the state."""
_FIELDS_0 = {"step", "run", "scalars", "files"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A training state.

    Attributes:
        step: optimizer steps done.
        run: identity of the run (`spec.run_digest`).
        tensors: groups of named tensors: "trainable", "optimizer", "reference", "annotator-0", ...
        scalars: JSON values: optimizer values that are not tensors, refreshes done, gradient scaler.
    """

    step: int
    run: str
    tensors: Mapping[str, Mapping[str, Tensor]]
    scalars: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """Which checkpoints stay: the `newest` ones, and those of the optimizer steps named in `milestones`."""

    newest: int = 2
    milestones: Sequence[int] = ()


@contextmanager
def writing(path: Path, size: int = 0) -> Iterator[None]:
    """Turn a full disk's error on writing `path` (`size` bytes) into DiskFullError, others into CheckpointError."""
    try:
        with space(path.parent, size):
            yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"Cannot write {path}: {error}. Earlier checkpoints are intact.",
            "Free space or fix permissions, then start the run again; it continues from the newest checkpoint.",
        ) from error


def save(folder: Path, checkpoint: Checkpoint, kept: Kept = Kept()) -> Path:
    """Publish a checkpoint below `folder`, drop those that need not stay; raises CheckpointError, DiskFullError."""
    target = folder / f"step-{checkpoint.step:06d}"
    scratch = folder / f".{target.name}.{uuid.uuid4().hex}.tmp"
    for left in folder.glob(".step-*.tmp"):  # by a process that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    size = sum(tensor.nbytes for tensors in checkpoint.tensors.values() for tensor in tensors.values())
    try:
        with writing(target, size):
            scratch.mkdir(parents=True)
            for group, tensors in checkpoint.tensors.items():
                flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
                save_file(flat, scratch / f"{group}.safetensors")
            files = {path.name: file_sha256(path) for path in sorted(scratch.iterdir())}
            scalars = dict(checkpoint.scalars)
            state = {"step": checkpoint.step, "run": checkpoint.run, "scalars": scalars, "files": files}
            state |= {"version": _VERSION}
            (scratch / _STATE).write_text(json.dumps({**state, _DIGEST: _digest(state)}, sort_keys=True))
            for path in scratch.iterdir():
                _sync(path)
            shutil.rmtree(target, ignore_errors=True)
            os.rename(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for step, old in _all(folder)[: -kept.newest]:
        if step not in kept.milestones:
            shutil.rmtree(old)
    return target


def newest(folder: Path) -> Path | None:
    """Where the newest checkpoint is, without reading it."""
    return _all(folder)[-1][1] if _all(folder) else None


def steps(folder: Path) -> set[int]:
    """The optimizer steps of which there are checkpoints, without reading them."""
    return {step for step, _ in _all(folder)}


def latest(folder: Path, run: str) -> Checkpoint | None:
    """The newest intact checkpoint below `folder`, or None; raises CheckpointError when it belongs to another run."""
    for step, path in reversed(_all(folder)):
        try:
            checkpoint = _load(path, step)
        except CheckpointError as error:
            logger.warning("not continued from: %s", error.problem)
            continue
        if checkpoint.run != run:
            raise CheckpointError(
                f"{path} belongs to another run: model, configuration or data differ.",
                "Give another run_dir, or delete this one to start again.",
            )
        return checkpoint
    return None


def optimizer_state(optimizer: torch.optim.Optimizer, names: list[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON values of an optimizer's state, each under `<parameter name>/<key>`."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            (tensors if isinstance(value, Tensor) else values)[f"{names[index]}/{key}"] = value
    return tensors, values


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: list[str], tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Put back what `optimizer_state` took."""
    index = {name: i for i, name in enumerate(names)}
    state: dict[int, dict[str, Any]] = {}
    for path, value in {**values, **tensors}.items():
        name, _, key = path.rpartition("/")
        state.setdefault(index[name], {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _all(folder: Path) -> list[tuple[int, Path]]:
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return sorted(found)


def _load(path: Path, step: int) -> Checkpoint:
    """Raise CheckpointError when files are missing or their bytes are not those that were written."""
    remedy = f"Delete {path}."
    state = read_json(path / _STATE, CheckpointError, remedy)
    # A version is told since there is a digest; before, there were these fields and no other.
    if state.keys() != _FIELDS_0 and state.pop(_DIGEST, None) != _digest(state):
        raise CheckpointError(f"{path / _STATE} is not what was written.", remedy)
    if state.get("version", 0) not in (0, _VERSION):
        raise CheckpointError(f"{path / _STATE} was written by a later release.", "Continue with that release.")
    try:
        for name, sha in state["files"].items():
            if file_sha256(path / name) != sha:
                raise CheckpointError(f"{path / name} is not what was written.", remedy)
        if state["step"] != step:
            raise CheckpointError(f"{path} holds the state of step {state['step']}.", remedy)
        tensors = {Path(name).stem: load_file(path / name) for name in state["files"]}
        return Checkpoint(step, state["run"], tensors, state["scalars"])
    except (OSError, SafetensorError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.", remedy) from error


def _digest(state: Mapping[str, Any]) -> str:
    """Not `digest.digest`: an optimizer's values may be infinite."""
    return sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
