"""How far a run moves its weights: as its files say, the same however it ran, and told where it is nothing."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.models.components import load_unet
from pipeline_lib.training import movement
from pipeline_lib.training.change import original_weights, projected
from pipeline_lib.training.launch.publish import reproducible_metrics
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.models import tiny
from tests.pipeline_lib.training.runs import finish, records, start, stop_in_step

CONFIG = TrainConfig(
    method="diffusion-dpo", adapter="full", beta=100.0, steps=24, batch_size=2, learning_rate=1e-3, checkpoint_every=7
)
BALANCED = {"method": "balanced-dpo", "reference_refresh": 5}


@pytest.fixture
def spec(new_run: Callable[..., TrainSpec]) -> Callable[..., TrainSpec]:
    return partial(new_run, CONFIG)


def measured(spec: TrainSpec, name: str = movement.CHANGE) -> dict[int, float]:
    """Step -> how far the weights were from the base."""
    return {record["step"]: record[name] for record in records(spec) if name in record}


def length(tensors: list[torch.Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


@torch.no_grad()
def by_hand(spec: TrainSpec) -> float:
    """The change of the result, from its files and the base's."""
    base, model = dict(load_unet(spec.model).named_parameters()), Path(spec.run_dir, "model")
    if spec.train.adapter == "full":
        trained = load_file(model / "unet/diffusion_pytorch_model.safetensors")
        return length([trained[name] - was for name, was in base.items()]) / length(list(base.values()))
    adapters = load_file(model / "pytorch_lora_weights.safetensors")
    places = [name.removeprefix("unet.").removesuffix(".lora_A.weight") for name in adapters if "lora_A" in name]
    scale = spec.train.lora_alpha / spec.train.lora_rank
    added = [scale * adapters[f"unet.{at}.lora_B.weight"] @ adapters[f"unet.{at}.lora_A.weight"] for at in places]
    return length(added) / length([base[f"{at}.weight"] for at in places])


@pytest.mark.parametrize(
    "changes",
    [
        BALANCED,
        {"adapter": "lora", "lora_rank": 2, "lora_alpha": 6},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"fixed_draws": 2}, marks=pytest.mark.slow),
        pytest.param({"method": "sft-chosen"}, marks=pytest.mark.slow),
    ],
    ids=["refreshed", "lora", "frozen", "cached", "no-reference"],
)
def test_the_change_is_that_of_the_files(changes: dict[str, Any], spec: Callable[..., TrainSpec]) -> None:
    job = spec(**changes)
    train(job)
    found = measured(job)
    assert list(found) == [7, 14, 20, 21, 24], "at checkpoints, after the first 20 steps, and at the end"
    assert found[24] == pytest.approx(by_hand(job), rel=1e-6)
    assert 0 < found[7] < found[24]
    assert list(measured(job, movement.PROJECTED)) == [20]


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_an_interrupted_run_logs_the_same(adapter: str, spec: Callable[..., TrainSpec]) -> None:
    whole, cut = spec("whole", **BALANCED, adapter=adapter), spec("cut", **BALANCED, adapter=adapter)
    train(whole)
    for step in (5, 11, 4):
        assert train(cut, stop_in_step(step)) == "interrupted"
    assert train(cut) == "done"
    for name in (movement.CHANGE, movement.PROJECTED):
        assert measured(cut, name) == measured(whole, name)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_processes_log_what_one_does(sharding: str, spec: Callable[..., TrainSpec]) -> None:
    changes: dict[str, Any] = {**BALANCED, "gradient_accumulation": 2, "sharding": sharding}
    one, two = spec("one", **changes), spec("two", **changes)
    train(one)
    finish(start(two, 2))
    assert list(measured(two)) == list(measured(one))
    assert list(measured(two).values()) == pytest.approx(list(measured(one).values()), rel=1e-3)


@pytest.mark.parametrize("saved", [{}, {"max_shard_size": "20KB"}], ids=["whole", "shards"])
def test_the_base_is_read_in_every_format_that_loads(saved: dict[str, Any], mirror: Path, tmp_path: Path) -> None:
    unet = load_unet(tiny.base(mirror, "v"))
    shutil.copytree(mirror / tiny.base(mirror, "v").repo, tmp_path / "base", ignore=shutil.ignore_patterns("unet"))
    unet.save_pretrained(tmp_path / "base/unet", **saved)
    original = original_weights(replace(tiny.base(mirror, "v"), repo=str(tmp_path / "base")))
    for name, parameter in unet.named_parameters():
        assert torch.equal(original(name), parameter)


def test_the_projection_follows_the_schedule() -> None:
    config = TrainConfig(method="diffusion-dpo", steps=100, learning_rate=1e-3)
    assert projected(config, 0.02, 20) == pytest.approx(0.1)
    config = TrainConfig(method="diffusion-dpo", steps=100, learning_rate=1e-3, schedule="linear")
    rates = [1 - i / 100 for i in range(100)]
    assert projected(config, 0.02, 20) == pytest.approx(0.02 * sum(rates) / sum(rates[:20]))
    config = TrainConfig(method="diffusion-dpo", steps=100, learning_rate=1e-3, warmup_steps=40)
    assert projected(config, 0.02, 20) == pytest.approx(0.02 * (20.5 + 60) / 5.25)


def test_a_run_that_does_not_move_is_told_early(
    spec: Callable[..., TrainSpec], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pipeline_lib.training.trainer"):
        train(spec("well", steps=20))
        assert not caplog.records
        train(spec("still", learning_rate=1e-8))
    (said,) = caplog.messages
    assert said.startswith("The weights do not move: learning rate 1e-8 moves weights by ")
    assert "in 24 steps" in said
    assert "Papers of this line give rates before scaling: with 2 pairs per step 1e-8 means 2e-8" in said


@pytest.mark.parametrize(
    ("steps", "change", "warned"),
    [(2000, 4e-4, True), (2000, 6e-4, False), (40, 1e-4, True), (40, 3e-4, False), (100, 0.0, True)],
)
def test_the_threshold_and_short_runs(steps: int, change: float, warned: bool) -> None:
    """A run of 40 steps is judged as if it had 100."""
    settings = {"learning_rate": 1e-8, "batch_size": 16, "gradient_accumulation": 8, "steps": steps}
    assert (movement.warning(settings, {movement.PROJECTED: change}) is not None) == warned
    assert movement.warning(settings, {movement.CHANGE: 0.0}) is None, "judged after the first 20 steps only"


def test_published_metrics_tell_it_only_of_weights_that_did_not_move(tmp_path: Path) -> None:
    """Of others the files tell it: their digests are those from before it was measured."""
    settings = {"learning_rate": 1e-8, "batch_size": 2, "gradient_accumulation": 1, "steps": 40}
    path = tmp_path / "metrics.jsonl"
    for change, kept in ((1e-6, ["relative_change", "projected_change"]), (0.1, [])):
        line = {"step": 20, "loss": 0.7, "relative_change": change / 2, "projected_change": change, "seconds": 1.5}
        path.write_text(json.dumps(line) + "\n")
        assert list(json.loads(reproducible_metrics(path, settings))) == ["step", "loss", *kept]
