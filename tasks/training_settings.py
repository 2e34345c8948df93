"""Every setting of a training run from a flow's form, refused with its name and its choices before any stage runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from pipeline_lib.core.config import TrainConfig, override
from pipeline_lib.core.errors import ConfigError, HubError, excerpt
from pipeline_lib.presets import MethodName, PresetName, alignment
from pipeline_lib.training.bounds import check_bounds
from pipeline_lib.training.methods import check_config, check_sharding
from tasks.base import base_model, pinned

_TYPES = TypeAdapter(TrainConfig)


def training_config(
    preset: PresetName,
    method: MethodName,
    settings: Mapping[str, Any] | None = None,
    sharding: Literal["none", "fsdp"] = "none",
    **fields: Any,
) -> TrainConfig:
    """The preset's settings for a method with those of `settings`, then `fields` that are not None, in their place.

    Raises:
        ConfigError: an unknown name, a value of the wrong type, settings that cannot do what they say, or, with
            `sharding`, what shards cannot do.
    """
    config = _typed(override(alignment(preset, method).train, **(settings or {})))
    check_bounds(config)  # also of what a field of the form takes the place of
    config = _typed(override(config, **fields))
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


def _typed(config: TrainConfig) -> TrainConfig:
    try:
        return _TYPES.validate_python(asdict(config))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}={excerpt(e['input'])}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            f"Wrong training settings: {wrong}.", "See TrainConfig in pipeline_lib/core/config.py."
        ) from error
