"""Which layers of a UNet `TrainConfig.lora_targets` means: each name some, and only such as LoRA can adapt."""

from __future__ import annotations

import re
from typing import Any

from pipeline_lib.core.config import BaseModel, TrainConfig, require
from pipeline_lib.core.errors import ConfigError, excerpt
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.models.components import empty_unet
from pipeline_lib.models.lora_names import layers_of

_LAST = re.compile(r"[^.]*[^.\d][^.]*(\.\d+)?$")
"""The end of a layer's name from its last part that is not a number: `to_q`, `to_out.0`."""


def check_targets(base: BaseModel, config: TrainConfig) -> None:
    """Raise ConfigError where `lora_targets` names something that the base's UNet does not have; loads no weights."""
    if config.adapter == "lora" and config.lora_targets is not None:
        check_layers(empty_unet(base), config.lora_targets)


def check_layers(unet: Any, targets: tuple[str, ...]) -> None:
    """Raise ConfigError unless each of `targets` is the name, or the end of the name, of layers that LoRA adapts."""
    require(len(targets) > 0, "lora_targets is empty.", "Name layers, or leave it out for the attention projections.")
    layers, modules = layers_of(unet), [name for name, _ in unet.named_modules()]
    for target in targets:
        meant = [name for name in modules if name and (name == target or name.endswith(f".{target}"))]
        if not meant:
            ends = {found[0] for name in layers if (found := _LAST.search(name))}
            raise unknown_name("layer in lora_targets", target, sorted(ends))
        if wrong := [name for name in meant if name not in layers]:
            kind = type(unet.get_submodule(wrong[0])).__name__
            raise ConfigError(
                f"{excerpt(target)} in lora_targets means {wrong[0]}, a {kind}: LoRA adapts linear layers and "
                "convolutions.",
                "Name the layers below it, such as to_q or ff.net.2.",
            )
