"""What a run survives: SIGKILL at any step, SIGTERM in the middle of one, a full disk, numbers that are not finite."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import CheckpointError, TrainingDivergedError
from pipeline_lib.training import checkpoints, losses, methods, movement
from pipeline_lib.training.checkpoints import Checkpoint
from pipeline_lib.training.launch.publish import TIMING_FIELDS
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.losses import Pairs
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.training.runs import records, saved, stop_in_step, weights

CONFIG = TrainConfig(
    method="diffusion-dpo", beta=100.0, steps=24, batch_size=2, learning_rate=1e-3, checkpoint_every=3, lora_rank=2
)
KILLS = 10
# Processes that have loaded torch already: starting one from nothing takes longer than the training it is to do.
READY = multiprocessing.get_context("forkserver")
READY.set_forkserver_preload([__name__])


@pytest.fixture
def spec(new_run: Callable[..., TrainSpec]) -> Callable[..., TrainSpec]:
    return partial(new_run, CONFIG)


def kill_at(spec: TrainSpec, step: int, wait: float) -> int:
    """Train in another process, SIGKILL it `wait` seconds after it logged `step`; returns the steps it had logged."""
    child = READY.Process(target=train, args=(spec,))
    child.start()
    metrics = Path(spec.run_dir, "metrics.jsonl")
    while child.is_alive() and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= step):
        time.sleep(0.001)
    time.sleep(wait)
    child.kill()
    child.join()
    return metrics.read_bytes().count(b"\n")


def told(spec: TrainSpec) -> list[dict[str, Any]]:
    """The metrics without those of time and memory."""
    return [{k: v for k, v in record.items() if k not in TIMING_FIELDS} for record in records(spec)]


KILLED: dict[str, dict[str, Any]] = {
    "balanced-full": {"adapter": "full", "method": "balanced-dpo", "reference_refresh": 5},
    "balanced-lora": {"method": "balanced-dpo", "reference_refresh": 5},
    "adaptive-lora": {"method": "adaptive-dpo", "ema_decays": (0.9, 0.5)},
    "dpo-lora": {},
    "dpo-full": {"adapter": "full"},
    "dpo-fixed-draws": {"fixed_draws": 2},
}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(c, id=name, marks=[] if name == "balanced-full" else pytest.mark.slow)
        for name, c in KILLED.items()
    ],
)
def test_killed_at_ten_random_steps_it_ends_in_the_same_bytes(
    changes: dict[str, Any], spec: Callable[..., TrainSpec]
) -> None:
    whole, killed = spec("whole", **changes), spec("killed", **changes)
    train(whole)
    draw = random.Random(str(changes))
    for step in sorted(draw.sample(range(1, CONFIG.steps), KILLS)):
        seen = kill_at(killed, step, draw.uniform(0, 0.05))
        assert step <= seen
    assert len(saved(killed)) <= CONFIG.keep_checkpoints + 2  # one not dropped yet, one half-written
    assert train(killed) == "done"
    assert weights(killed) == weights(whole)
    assert [record["step"] for record in records(killed)] == list(range(1, CONFIG.steps + 1))
    assert told(killed) == told(whole)
    assert sum(movement.CHANGE in record for record in told(killed)) == 9


def test_sigterm_within_a_step_loses_no_finished_step(spec: Callable[..., TrainSpec]) -> None:
    """A step may take minutes: it is given up between two forward passes, and done again after the resumption."""
    changes = {"steps": 4, "gradient_accumulation": 4, "checkpoint_every": 100}
    whole, cut = spec("whole", **changes), spec("cut", **changes)
    train(whole)
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked == 7  # four questions in step 1 (three between its passes, one after it), the third in step 2

    assert train(cut, stopping) == "interrupted"
    assert asked == 7
    assert saved(cut) == ["step-000001"]
    assert train(cut) == "done"
    assert weights(cut) == weights(whole)


def limited(spec: TrainSpec, size: int) -> None:
    """Train where no file can grow beyond `size` bytes; exit code 3 says that a CheckpointError told so."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        train(spec)
    except CheckpointError as error:
        assert "Earlier checkpoints are intact" in error.problem and "File too large" in error.problem, error.problem
        assert error.remedy.startswith("Free space")
        os._exit(3)


@pytest.mark.parametrize(("size", "what"), [(1_500, "metrics"), (40_000, "checkpoint")])
def test_full_disk_is_said_and_the_last_checkpoint_serves(
    size: int, what: str, spec: Callable[..., TrainSpec]
) -> None:
    whole, cut = spec("whole", steps=8, adapter="full"), spec("cut", steps=8, adapter="full")
    train(whole)
    train(cut, stop_in_step(1))
    child = READY.Process(target=limited, args=(cut, size))
    child.start()
    child.join()
    assert child.exitcode == 3
    assert saved(cut) == ["step-000001"]
    assert train(cut) == "done"
    assert weights(cut) == weights(whole)
    assert [record["step"] for record in records(cut)] == list(range(1, 9))


@pytest.fixture
def break_steps(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the loss at certain steps a value, or only a gradient, that is not finite."""

    def broken(steps: set[int], gradient_only: bool = False) -> None:
        plain, calls = losses.diffusion_dpo, 0

        def loss(pairs: Pairs, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
            nonlocal calls
            calls += 1
            values, extra = plain(pairs, config)
            if calls not in steps:
                return values, extra
            # The root's slope at 0 is infinite, times 0.
            return values + (0 * pairs.policy[0]).sqrt() if gradient_only else values * torch.nan, extra

        monkeypatch.setattr(losses, "diffusion_dpo", loss)

    return broken


def trained(spec: TrainSpec, step: int) -> dict[str, Tensor]:
    found = checkpoints._load(Path(spec.run_dir, f"checkpoints/step-{step:06d}"), step)
    assert isinstance(found, Checkpoint)
    return dict(found.tensors["trainable"])


@pytest.mark.parametrize("gradient_only", [False, True])
def test_a_step_that_is_not_finite_is_skipped_and_counted(
    gradient_only: bool, spec: Callable[..., TrainSpec], break_steps: Callable[..., None]
) -> None:
    job = spec(steps=6, checkpoint_every=1, keep_checkpoints=10)
    break_steps({3, 4}, gradient_only)
    assert train(job) == "done"
    assert [record["skipped"] for record in records(job)] == [0, 0, 1, 2, 2, 2]
    assert ["grad_norm" in record for record in records(job)] == [True, True, False, False, True, True]
    assert saved(job) == ["step-000001", "step-000002", "step-000005"]  # none while steps are being skipped
    before, after = trained(job, 2), trained(job, 5)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.isfinite(value).all() for value in after.values())


def test_too_many_in_a_row_end_the_run_with_a_diagnosis(
    spec: Callable[..., TrainSpec], break_steps: Callable[..., None]
) -> None:
    job = spec(steps=20, checkpoint_every=2, max_skipped_steps=3)
    break_steps({2, *range(6, 20)})  # one alone does not count
    with pytest.raises(TrainingDivergedError) as caught:
        train(job)
    said = caught.value.problem
    assert "Optimizer step 9: 4 steps in a row" in said
    assert "The weights are finite; the forward or backward pass overflows." in said
    assert "Last finite step 5: loss 0." in said
    assert said.endswith(f"Last good checkpoint: {Path(job.run_dir, 'checkpoints/step-000004')}.")
    assert caught.value.remedy.startswith("Lower learning_rate or beta")
    assert all(torch.isfinite(value).all() for value in trained(job, 4).values())


def test_an_update_that_breaks_the_weights_is_never_saved(
    spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "validated", lambda config: config)  # what a sane rate does not break in nine steps
    job = spec(steps=9, adapter="full", learning_rate=1e38, warmup_steps=0, weight_decay=0.0, checkpoint_every=1)
    with pytest.raises(TrainingDivergedError, match=r"(?s)trainable tensors are not.*There is no checkpoint yet"):
        train(job)
    assert not Path(job.run_dir, "checkpoints").exists()
    assert not Path(job.run_dir, "model").exists()


def test_newest_and_named_checkpoints_stay(spec: Callable[..., TrainSpec]) -> None:
    job = spec(steps=12, checkpoint_every=2, keep_checkpoints=3, milestones=(3, 4))
    train(job)
    assert saved(job) == ["step-000003", "step-000004", "step-000006", "step-000008", "step-000010"]
