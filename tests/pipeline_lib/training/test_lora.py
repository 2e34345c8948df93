"""The trainer's LoRA layer is PEFT's with less work."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear

from pipeline_lib.training.lora import FusedLinear, lora_config

SETTINGS: dict[str, Any] = {"r": 3, "lora_alpha": 6, "target_modules": ["0", "2"]}


def layers(dropout: float = 0.0) -> tuple[Any, Any]:
    """The same two adapted layers by PEFT and by us, with adapters that are not zero."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.SiLU(), torch.nn.Linear(6, 4, bias=False))
    base.requires_grad_(False)
    theirs, ours = copy.deepcopy(base), base
    inject_adapter_in_model(LoraConfig(lora_dropout=dropout, **SETTINGS), theirs)
    inject_adapter_in_model(lora_config(lora_dropout=dropout, **SETTINGS), ours)
    assert type(theirs[0]) is Linear and type(ours[0]) is FusedLinear
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def run(model: Any, autocast: bool = False) -> list[torch.Tensor]:
    """Output and gradients, of the input too."""
    torch.manual_seed(1)
    model.zero_grad()
    x = torch.randn(2, 5, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = model(x)
    out.float().pow(2).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    return [out.detach(), x.grad, *gradients]  # type: ignore[list-item]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_numbers_are_those_of_peft(dropout: float) -> None:
    theirs, ours = layers(dropout)
    found = run(ours)
    assert len(found) == 6
    for mine, expected in zip(found, run(theirs), strict=True):
        torch.testing.assert_close(mine, expected)


def test_mixed_precision_is_as_close_to_fp32_as_pefts() -> None:
    theirs, ours = layers()
    exact = run(theirs)
    for model in (theirs, ours):
        for layer in (model[0], model[2]):
            layer.base_layer.weight.data = layer.base_layer.weight.data.bfloat16()

    def distance(model: Any) -> list[float]:
        pairs = zip(run(model, autocast=True), exact, strict=True)
        return [float((x.float() - y).norm() / y.norm()) for x, y in pairs]

    model_error = max(distance(theirs))
    assert 0 < model_error < 0.05
    model_dtypes = [x.dtype for x in run(ours, autocast=True)]
    assert model_dtypes == [torch.bfloat16] + [torch.float32] * 5
    assert max(distance(ours)) < 1.5 * model_error + 0.01


def test_without_adapters_it_is_the_base_layer() -> None:
    theirs, ours = layers()
    for layer in (ours[0], ours[2]):
        layer.enable_adapters(False)
    x = torch.randn(2, 5, 8)
    plain = theirs[2].base_layer(torch.nn.functional.silu(theirs[0].base_layer(x)))
    assert torch.equal(ours(x), plain)
