"""FSDP: two processes that share weights and optimizer state do what one process does that has it all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import UNet2DConditionModel
from PIL import Image

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import open_dataset
from pipeline_lib.training.launch import job
from pipeline_lib.training.launch.launcher import environment, launcher
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


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps the precision of the first run of a process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture
def spec(new_run: Callable[..., TrainSpec]) -> Callable[..., TrainSpec]:
    return partial(new_run, CONFIG, sharding="fsdp")


def unet(spec: TrainSpec) -> dict[str, torch.Tensor]:
    return UNet2DConditionModel.from_pretrained(Path(spec.run_dir, "model/unet")).state_dict()


def same(one: TrainSpec, other: TrainSpec) -> None:
    """The same curve, and the same result in the same format."""
    assert len(curve(one)) == one.train.steps
    for name in ("loss", "grad_norm", "drift", "margin"):
        assert curve(other, name) == pytest.approx(curve(one, name), abs=1e-4, rel=1e-4)
    weights = unet(other)
    for name, wanted in unet(one).items():
        torch.testing.assert_close(weights[name], wanted, atol=1e-4, rtol=1e-3)
    configs = [Path(spec.run_dir, "model/unet/config.json").read_text() for spec in (one, other)]
    assert configs[0] == configs[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"base": "xl", "gradient_checkpointing": True},
        {"method": "balanced-dpo", "reference_refresh": 6, "steps": 20},
        {"method": "adaptive-dpo", "ema_decays": (0.9, 0.5), "steps": 20},
    ],
    ids=["dpo-xl", "balanced", "adaptive"],
)
def test_shards_give_the_curve_and_the_model_of_one_process(
    changes: dict[str, Any], spec: Callable[..., TrainSpec]
) -> None:
    one, two = spec("one", sharding="none", **changes), spec("two", **changes)
    train(one)
    finish(start(two, 2))
    same(one, two)


@pytest.mark.slow
def test_an_interrupted_run_continues_in_shards_or_without(spec: Callable[..., TrainSpec], tmp_path: Path) -> None:
    changes = {"method": "balanced-dpo", "reference_refresh": 4, "sample_every": 20, "steps": 45}
    one, two = spec("one", sharding="none", **changes), spec("two", **changes)
    train(one)
    process = start(two, 2)
    wait_for_steps(two, 6, process)
    interrupt(process)
    assert status(two) == {"status": "interrupted"}
    done = len(curve(two))
    assert 6 <= done < one.train.steps
    assert saved(two) == [f"step-{done:06d}"]

    whole = replace(two, run_dir=str(tmp_path / "whole"), sharding="none")
    subprocess.run(["cp", "-r", two.run_dir, whole.run_dir], check=True)
    finish(start(two, 2))
    same(one, two)
    assert train(whole) == "done"
    same(one, whole)
    grids = [Image.open(Path(job.run_dir, "samples/step-000040.png")).convert("L") for job in (one, two)]
    left, right = (torch.tensor(list(grid.tobytes()), dtype=torch.float32) for grid in grids)
    assert (left - right).abs().mean() < 1


@pytest.mark.slow
def test_shards_in_bf16_follow_one_process_in_bf16(spec: Callable[..., TrainSpec]) -> None:
    changes = {"mixed_precision": "bf16", "steps": 5}
    one, two = spec("one", sharding="none", **changes), spec("two", **changes)
    train(one)
    finish(start(two, 2))
    assert curve(two)[0] == curve(one)[0]
    assert curve(two, "grad_norm")[0] == pytest.approx(curve(one, "grad_norm")[0], rel=1e-3)
    assert curve(two) == pytest.approx(curve(one), abs=0.05)  # bf16 has three digits, and Adam makes much of the last
    assert {weight.dtype for weight in unet(two).values()} == {torch.float32}


@pytest.mark.slow
def test_a_job_in_shards_publishes_the_dataset_of_a_job_without(
    spec: Callable[..., TrainSpec], tmp_path: Path
) -> None:
    given = spec("job", steps=2)
    question = (
        given.model,
        given.train,
        open_dataset(given.encoded),
        open_dataset(given.labels),
        tmp_path / "scratch",
    )
    made = job.train(str(tmp_path / "store"), *question, processes=2, sharding="fsdp")
    assert {shard.path for shard in made.shards} == {
        "metrics.jsonl",
        "model/base.json",
        "model/unet/config.json",
        "model/unet/diffusion_pytorch_model.safetensors",
    }
    UNet2DConditionModel.from_pretrained(made.local("model/unet"))
    assert job.train(str(tmp_path / "store"), *question, command=("/bin/false",)).digest == made.digest


SHARE = """
import sys
from pathlib import Path
from accelerate import Accelerator
from pipeline_lib.training.optimizers import build_optimizer
from pipeline_lib.training.policy import build_policy
from pipeline_lib.training.reference import copy_weights
from pipeline_lib.training.sharding import local, shard
from pipeline_lib.training.launch.spec import read_spec
spec = read_spec(Path(sys.argv[1]))
policy = shard(build_policy(spec.model, spec.train), Accelerator())
optimizer = build_optimizer(policy.trainable.values(), spec.train)
for parameter in policy.trainable.values():
    parameter.grad = parameter.detach().clone()
optimizer.step()
moments = [state["exp_avg"] for state in optimizer.state.values()]
parameters, copies = list(policy.trainable.values()), list(copy_weights(policy).values())
held = [parameters, [p.grad for p in parameters], moments, copies]
whole = sum(p.numel() for p in parameters)
for tensors in held:
    assert sum(local(t).untyped_storage().nbytes() for t in tensors) < 0.62 * 4 * whole, len(tensors)
"""


@pytest.mark.slow
def test_each_process_holds_its_part_of_weights_gradients_moments_and_reference(
    spec: Callable[..., TrainSpec], tmp_path: Path
) -> None:
    """Up to padding: no tensor of these tiny models divides evenly."""
    job = spec("share")
    write_spec(tmp_path / "spec.json", job)
    (tmp_path / "share.py").write_text(SHARE)
    command = [*launcher(2)[:-2], str(tmp_path / "share.py"), str(tmp_path / "spec.json")]
    result = subprocess.run(command, env=environment(2) | {"PYTHONPATH": ":".join(sys.path)}, timeout=120)
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"adapter": "lora"}, "adapter='full'"),
        ({"optimizer": "adafactor"}, "optimizer='adamw'"),
        ({"mixed_precision": "fp16"}, "mixed_precision='bf16'"),
        ({"compile": True}, "compile=False"),
        ({"fixed_draws": 2}, "fixed_draws=0"),
    ],
)
def test_what_shards_cannot_do_is_refused_before_the_first_step(
    changes: dict[str, Any], remedy: str, spec: Callable[..., TrainSpec]
) -> None:
    job = spec("refused", **changes)
    with pytest.raises(ConfigError) as error:
        train(job)
    assert remedy in str(error.value)
    assert not Path(job.run_dir).exists()


def test_one_process_has_nothing_to_share(spec: Callable[..., TrainSpec]) -> None:
    alone, plain = spec("alone", steps=2), spec("plain", sharding="none", steps=2)
    train(alone)
    train(plain)
    assert curve(alone) == curve(plain)
