"""How far weights are from the base's: ||theta - theta_0|| / ||theta_0|| over all that trains, in float64.

With LoRA theta_0 are the matrices that are adapted and the difference is what the adapters add to them, scale B A: of
the adapters themselves, B starts at 0 and A at random, so that their lengths say nothing about the model.

theta_0 is read from the base's files, one tensor at a time. A frozen reference on the GPU would hold it too, but a
refreshed one, cached draws or no reference would not: this is one way for all, costs no memory, and some seconds of
reading where a checkpoint is written anyway. The files stay open: a run does not end because its base was removed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import torch
from safetensors import safe_open
from torch import Tensor

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.models.aligned import UNET
from pipeline_lib.models.components import stored_unet
from pipeline_lib.models.parts import folder
from pipeline_lib.training.optimizers import learning_rate
from pipeline_lib.training.policy import ADAPTER, Policy
from pipeline_lib.training.sharding import whole

Original: TypeAlias = Callable[[str], Tensor]
Changes: TypeAlias = Iterable[tuple[Tensor, Tensor]]
"""What was added to each matrix or vector, and what it was."""


def original_weights(base: BaseModel) -> Original:
    """A function that gives a tensor of the base's UNet by its name; raises HubError where the files are not."""
    stored = stored_unet(folder(base, [UNET]) / UNET)
    files = {path: safe_open(path, framework="pt") for path in {path for path, _ in stored.values()}}

    def tensor(name: str) -> Tensor:
        path, stored_name = stored[name]
        found: Tensor = files[path].get_tensor(stored_name)
        return found

    return tensor


def relative_change(policy: Policy, original: Original | None) -> float:
    """How far a policy is from its base. All processes of a sharded one must call this together.

    Args:
        original: `original_weights`; without LoRA 0 is returned where there is None.
    """
    return _ratio(_added(policy) if policy.lora else _differences(policy, original))


def projected(config: TrainConfig, change: float, step: int) -> float:
    """How far `config.steps` steps get, after `change` in the first `step`, if all keep their direction: at most.

    A step's length is proportional to its learning rate, so this follows the schedule.
    """
    rates = [learning_rate(config, i) for i in range(config.steps)]
    return change * sum(rates) / sum(rates[:step])


@torch.no_grad()
def _ratio(changes: Changes) -> float:
    moved = length = 0.0
    for change, original in changes:
        moved += _square(change)
        length += _square(original)
    return math.sqrt(moved / length) if length else 0.0


def _square(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64).square())


def _differences(policy: Policy, original: Original | None) -> Iterator[tuple[Tensor, Tensor]]:
    for name, parameter in policy.trainable.items():
        now = whole(parameter.detach())
        if original:
            then = original(name).to(now.device, now.dtype)
            yield now - then, then


def _added(policy: Policy) -> Iterator[tuple[Tensor, Tensor]]:
    for name in policy.trainable:
        module, is_down, _ = name.partition(".lora_A.")
        if is_down:
            layer = policy.unet.get_submodule(module)
            yield layer.get_delta_weight(ADAPTER), layer.base_layer.weight
