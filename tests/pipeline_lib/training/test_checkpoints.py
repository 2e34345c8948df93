"""Checkpoints are atomic, verified, pruned, and refuse to be mixed up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from pipeline_lib.core.errors import CheckpointError, DiskFullError
from pipeline_lib.training import checkpoints
from pipeline_lib.training.checkpoints import Checkpoint


def state(step: int, run: str = "run") -> Checkpoint:
    return Checkpoint(step, run, {"trainable": {"w": torch.full((3,), float(step))}}, {"refreshes": step})


def test_newest_intact_one_is_loaded(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path, "run") is None
    for step in (2, 10, 4):
        checkpoints.save(tmp_path, state(step))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000004", "step-000010"]
    found = checkpoints.latest(tmp_path, "run")
    assert found is not None
    assert (found.step, found.scalars, found.tensors["trainable"]["w"].tolist()) == (10, {"refreshes": 10}, [10.0] * 3)
    with (tmp_path / "step-000010/trainable.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    found = checkpoints.latest(tmp_path, "run")
    assert found is not None
    assert found.step == 4


def test_unfinished_one_is_ignored(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, state(1))
    (tmp_path / "step-000002").mkdir()
    (tmp_path / ".step-000003.abc.tmp").mkdir()
    found = checkpoints.latest(tmp_path, "run")
    assert found is not None
    assert found.step == 1


def test_another_run_is_refused(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, state(1))
    with pytest.raises(CheckpointError, match="another run"):
        checkpoints.latest(tmp_path, "other")


def test_failed_write_leaves_the_last_one_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(tmp_path, state(1))

    # safetensors says it in words, the others by number.
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    for error, expected in (
        (full, DiskFullError),
        (OSError(28, "No space"), DiskFullError),
        (OSError(5, "I/O"), CheckpointError),
    ):

        def fail(*args: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(checkpoints, "save_file", fail)
        with pytest.raises(expected, match="intact"):
            checkpoints.save(tmp_path, state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    found = checkpoints.latest(tmp_path, "run")
    assert found is not None
    assert found.step == 1


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.NAdam])
def test_optimizer_state_returns(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    def build() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, optimizer(layer.parameters(), lr=0.1)

    def step(layer: torch.nn.Linear, chosen: torch.optim.Optimizer) -> None:
        chosen.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        chosen.step()

    layer, whole = build()
    step(layer, whole)
    tensors, values = checkpoints.optimizer_state(whole, ["weight", "bias"])
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    weights = {name: value.clone() for name, value in layer.state_dict().items()}
    step(layer, whole)
    other, resumed = build()
    other.load_state_dict(weights)
    checkpoints.restore_optimizer(resumed, ["weight", "bias"], tensors, values)
    step(other, resumed)
    assert torch.equal(other.weight, layer.weight)
