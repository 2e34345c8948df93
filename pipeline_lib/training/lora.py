"""LoRA in fewer passes over the activations than PEFT's: the low-rank term is added in place by the matrix product.

PEFT computes `base(x) + B(A(x)) * scale` with a copy of the activations for each of the product, its scaling and the
sum, and in mixed precision one more for a cast of x to fp32. Names, formats and switching adapters off stay PEFT's.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from torch import Tensor
from torch.nn.functional import linear


class FusedLinear(Linear):
    """A linear layer with one LoRA adapter, never merged."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[..., in] to [..., out]: W x + bias + scale * B A x."""
        base = self.base_layer
        if self.disable_adapters:
            return base(x)
        (name,) = self.active_adapters
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        rows = x.reshape(-1, x.shape[-1])
        low = linear(self.lora_dropout[name](rows), down.to(rows.dtype))
        out = linear(rows, base.weight, base.bias)
        # In place: the backward pass of a linear layer needs its input and weight, never its output.
        out.addmm_(low, up.t().to(out.dtype), alpha=self.scaling[name])
        return out.view(*x.shape[:-1], -1)


def lora_config(**settings: Any) -> LoraConfig:
    """PEFT's configuration with `FusedLinear` for linear layers; other targets get PEFT's own layers."""
    config = LoraConfig(**settings)
    config._register_custom_module({torch.nn.Linear: FusedLinear})  # PEFT documents it as its way to own layers
    return config
