"""Frozen models beside the policy: the reference and Adaptive-DPO's historical annotators.

A frozen model is a set of values for the trainable parameters, run through the policy's own UNet without gradient:
no second UNet object, and with LoRA only the adapters are kept twice. None means the base itself, adapters off.
Under FSDP the values are sharded like the parameters they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.func import functional_call

from pipeline_lib.training.policy import Policy
from pipeline_lib.training.sharding import exchanged, local

Weights: TypeAlias = dict[str, Tensor]


@torch.no_grad()
def copy_weights(policy: Policy) -> Weights:
    """The policy's trainable parameters as they are now, fp32."""
    return {name: parameter.detach().clone() for name, parameter in policy.trainable.items()}


def initial_reference(policy: Policy) -> Weights | None:
    """The base model: adapters off for LoRA, a copy of the weights for full fine-tuning."""
    return None if policy.lora else copy_weights(policy)


@torch.no_grad()
def refresh(policy: Policy, weights: Weights | None) -> Weights:
    """The policy as the new reference (BalancedDPO's dynamic reference), copied in place where there is one."""
    if weights is None:
        return copy_weights(policy)
    torch._foreach_copy_(_values(weights), _values(policy.trainable))
    return weights


@torch.no_grad()
def follow(annotator: Weights, policy: Policy, decay: float) -> None:
    """One step of an exponential moving average: annotator <- decay * annotator + (1 - decay) * policy, in fp32."""
    torch._foreach_lerp_(_values(annotator), _values(policy.trainable), 1 - decay)


@torch.no_grad()
def predict(
    policy: Policy, weights: Weights | None, inputs: tuple[Any, ...], conditioning: Mapping[str, Any]
) -> Tensor:
    """The UNet's prediction [n, C, H, W] with other weights, without gradient and without LoRA dropout."""
    unet = policy.unet
    unet.eval()
    try:
        if weights is not None and policy.sharded:
            with exchanged(policy, weights):
                return unet(*inputs, **conditioning, return_dict=False)[0]
        if weights is not None:
            return functional_call(unet, weights, inputs, {**conditioning, "return_dict": False})[0]
        unet.disable_adapters()
        try:
            return unet(*inputs, **conditioning, return_dict=False)[0]
        finally:
            unet.enable_adapters()
    finally:
        unet.train()


def _values(parameters: Mapping[str, Tensor]) -> list[Tensor]:
    return [local(parameter.detach()) for parameter in parameters.values()]
