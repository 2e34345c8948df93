"""Every setting of a training run from a flow's form, refused with its name and its choices before any stage runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import HubError
from pipeline_lib.core.overrides import override
from pipeline_lib.presets import MethodName, PresetName, alignment
from pipeline_lib.training.methods import check_config, check_sharding
from tasks.base import base_model, pinned


def training_config(
    preset: PresetName,
    method: MethodName,
    train: Mapping[str, Any] | None = None,
    sharding: Literal["none", "fsdp"] = "none",
    **fields: Any,
) -> TrainConfig:
    """The preset's settings for a method with those of `train`, then `fields` that are not None, in their place.

    Raises:
        ConfigError: an unknown name, a value of the wrong type, settings that cannot do what they say, or, with
            `sharding`, what shards cannot do.
    """
    config = override(alignment(preset, method).train, train, **fields)
    check_config(config)
    if sharding != "none":
        check_sharding(config)
    return config


def check_lora_targets(preset: PresetName, base: str | None, config: TrainConfig) -> None:
    """Raise ConfigError where `lora_targets` names layers that the run's base does not have.

    Args:
        base: a flow's parameter `base`.
    """
    if config.adapter == "lora" and config.lora_targets is not None:
        from pipeline_lib.training.targets import check_targets  # loads torch

        with suppress(HubError):  # a hub that cannot be reached now is left to the stages, which try again
            check_targets(base_model(preset, pinned(base)), config)
