"""The model being trained: a base UNet with LoRA or all weights trainable, and how the result is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.aligned import LORA_WEIGHTS, UNET, write_base
from pipeline_lib.models.components import load_unet
from pipeline_lib.models.shared_text import share_text
from pipeline_lib.training.targets import check_layers

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
ADAPTER = "default"


@dataclass(frozen=True)
class Policy:
    """The UNet and its trainable parameters.

    Attributes:
        unet: UNet2DConditionModel, not wrapped by accelerate.
        trainable: fp32 parameters by their name in the UNet, in the UNet's order.
        lora: only adapters train; without them the UNet is the base.
        sharded: parameters are spread over the processes (sharding.py).
        shares_text: the UNet takes one text for both images of a pair (`share_text`).
    """

    unet: Any
    trainable: Mapping[str, torch.nn.Parameter]
    lora: bool
    sharded: bool = False
    shares_text: bool = False


def build_policy(base: BaseModel, config: TrainConfig) -> Policy:
    """Load the base UNet and choose what trains.

    LoRA: the base is frozen, its matrices in half precision under mixed precision; adapters are fp32, B starts at 0
    and A is drawn from `config.seed`. Full: everything trains in fp32, mixed precision is autocast.

    Raises:
        ConfigError: `lora_targets` names layers that the UNet does not have.
        HubError, CheckpointError: the base cannot be fetched or loaded.
    """
    lora = config.adapter == "lora"
    unet = load_unet(base)
    shares_text = share_text(unet)
    if lora:
        check_layers(unet, tuple(_targets(base, config)))
        unet.requires_grad_(False)
        for parameter in unet.parameters():
            if parameter.ndim > 1:  # norms and biases stay in fp32: autocast does not convert them everywhere
                parameter.data = parameter.data.to(DTYPES[config.mixed_precision])
        torch.manual_seed(config.seed)
        unet.add_adapter(_lora_config(base, config), adapter_name=ADAPTER)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    trainable = {name: parameter for name, parameter in unet.named_parameters() if parameter.requires_grad}
    for parameter in trainable.values():
        parameter.data = parameter.data.float()
    return Policy(unet.train(), trainable, lora, shares_text=shares_text)


def save_policy(policy: Policy, base: BaseModel, config: TrainConfig, out: Path) -> None:
    """Write the result in diffusers' formats: `pytorch_lora_weights.safetensors` or `unet/`, and `base.json`."""
    out.mkdir(parents=True, exist_ok=True)
    if policy.lora:
        _save_lora(policy, base, config, out)
    else:
        policy.unet.register_to_config(_name_or_path=base.repo)
        policy.unet.save_pretrained(out / UNET, safe_serialization=True)
    write_base(base, out)


def _save_lora(policy: Policy, base: BaseModel, config: TrainConfig, out: Path) -> None:
    weights: dict[str, Tensor] = {
        f"unet.{name.replace(f'.{ADAPTER}.', '.')}": parameter.detach().cpu().contiguous()
        for name, parameter in policy.trainable.items()
    }
    settings = {"r": config.lora_rank, "lora_alpha": config.lora_alpha, "target_modules": _targets(base, config)}
    adapter = json.dumps({f"unet.{name}": value for name, value in settings.items()}, indent=2, sort_keys=True)
    # One entry only: safetensors writes several in random order, and the same run must give the same bytes.
    save_file(weights, out / LORA_WEIGHTS, metadata={"lora_adapter_metadata": adapter})


def _lora_config(base: BaseModel, config: TrainConfig) -> Any:
    from pipeline_lib.training.lora import lora_config  # loads peft: slow, and full fine-tuning does not need it

    return lora_config(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        init_lora_weights="gaussian",
        target_modules=_targets(base, config),
    )


def _targets(base: BaseModel, config: TrainConfig) -> list[str]:
    own = config.lora_targets
    return list(FAMILIES.get(base.family).lora_targets if own is None else own)
