"""FSDP2: full fine-tuning with weights, gradients, optimizer state and frozen models cut into one shard per process.

Torch's `fully_shard`, block by block: a process holds one whole block at a time. Accelerate launches the processes and
applies autocast; its own FSDP plugin wraps the same function, but for accelerators only, and so could not be tested on
CPUs. Everything that leaves the run (checkpoints, the result) is whole again, so a run may continue on another number
of processes, or without shards. Weights are gathered in fp32: sharding changes no result beyond rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from pipeline_lib.training.policy import Policy


def shard(policy: Policy, accelerator: Accelerator) -> Policy:
    """Cut the policy's UNet, in place, over all processes of `accelerator`; the parameters are new objects."""
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.resnet import ResnetBlock2D

    unet = accelerator.prepare_model(policy.unet, device_placement=False, evaluation_mode=True)  # autocast only
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    blocks = [module for module in unet.modules() if isinstance(module, BasicTransformerBlock | ResnetBlock2D)]
    for module in (*blocks, unet):
        # Also the outermost: weights that stayed whole after a forward pass of the reference would be the policy's.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    return replace(policy, unet=unet, trainable=dict(unet.named_parameters()), sharded=True)


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, which shares its memory; the tensor itself when it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered where it is sharded: then every process must call this, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole tensors in host memory, where `keep`; otherwise nothing: the process only takes part."""
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if keep:
            found[name] = full.cpu()
    return found


def like(tensor: Tensor, values: Tensor) -> Tensor:
    """Whole `values`, the same in every process, on the device of `tensor` and sharded as it is; no communication."""
    values = values.to(tensor.device)
    if not isinstance(tensor, DTensor) or values.shape != tensor.shape:  # an optimizer's step count is never sharded
        return values
    return distribute_tensor(values, tensor.device_mesh, tensor.placements, src_data_rank=None)


@contextmanager
@torch.no_grad()
def exchanged(policy: Policy, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Lend a sharded policy's parameters the values of `weights`, which keep the policy's meanwhile.

    Sharded modules gather their own parameters, so others cannot be passed to them. Nothing is allocated beyond the
    largest shard. No graph of the policy may be alive.
    """

    def exchange() -> None:
        for name, parameter in policy.trainable.items():
            ours, theirs = local(parameter), local(weights[name])
            kept = ours.clone()
            ours.copy_(theirs)
            theirs.copy_(kept)

    exchange()
    try:
        yield
    finally:
        exchange()


def unsharded(policy: Policy, keep: bool) -> Policy:
    """The policy with a whole UNet in host memory, where `keep`; every process must call this."""
    if not policy.sharded:
        return policy
    weights = gathered(policy.unet.state_dict(), keep)
    if not keep:
        return policy
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(policy.unet.config)
    unet.load_state_dict(weights, assign=True)
    return replace(policy, unet=unet, trainable=dict(unet.named_parameters()), sharded=False)
