"""Which optimizer a configuration builds, and which it cannot build here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.optimizers import build_optimizer
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.training.runs import records

CONFIG = TrainConfig(method="diffusion-dpo", learning_rate=1e-2, weight_decay=0.1)


def stepped(config: TrainConfig, gradients: list[float]) -> tuple[torch.optim.Optimizer, float]:
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = build_optimizer([weight], config)
    for gradient in gradients:
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    return optimizer, weight.item()


def test_adamw_is_adamw_with_decoupled_decay() -> None:
    optimizer, found = stepped(CONFIG, [0.5, -1.0])
    assert type(optimizer) is torch.optim.AdamW and optimizer.defaults["fused"]
    weight, first, second = 2.0, 0.0, 0.0
    for t, gradient in enumerate([0.5, -1.0], 1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        weight -= 1e-2 * 0.1 * weight
        weight -= 1e-2 * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)) ** 0.5 + 1e-8)
    assert found == pytest.approx(weight, rel=1e-6)


def test_adafactor_has_a_fixed_rate_and_clips_its_updates() -> None:
    """As in Diffusion-DPO: no scaling by the parameter, no rate of its own; one gradient gives an update of 1."""
    optimizer, found = stepped(replace(CONFIG, optimizer="adafactor"), [0.5])
    assert type(optimizer).__name__ == "Adafactor"
    assert found == pytest.approx(2.0 - 1e-2 * 0.1 * 2.0 - 1e-2 * 1.0, rel=1e-5)


def test_eight_bit_adamw_is_that_of_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("bitsandbytes.optim")
    module.AdamW8bit = type("AdamW8bit", (torch.optim.AdamW,), {})
    monkeypatch.setitem(sys.modules, "bitsandbytes", ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], replace(CONFIG, optimizer="adamw8bit"))
    assert type(optimizer) is module.AdamW8bit
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-2, 0.1)


def test_eight_bit_adamw_without_bitsandbytes_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match=r"(?s)needs bitsandbytes.*'\.\[gpu\]'"):
        build_optimizer([torch.nn.Parameter(torch.zeros(1))], replace(CONFIG, optimizer="adamw8bit"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_eight_bit_adamw_without_a_gpu_ends_before_the_first_step(new_run: Callable[..., TrainSpec]) -> None:
    job = new_run(CONFIG, optimizer="adamw8bit", steps=1, batch_size=2)
    with pytest.raises(ConfigError, match=r"(?s)needs a GPU.*adafactor"):
        train(job)
    assert records(job) == []
