"""Every setting of a training run from a flow's form, refused with its name and its choices before any stage runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from pipeline_lib.config import TrainConfig, override
from pipeline_lib.errors import ConfigError, excerpt
from pipeline_lib.presets import MethodName, PresetName, alignment
from pipeline_lib.training.bounds import check_bounds
from pipeline_lib.training.methods import check_config, check_sharding

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


def _typed(config: TrainConfig) -> TrainConfig:
    try:
        return _TYPES.validate_python(asdict(config))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}={excerpt(e['input'])}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            f"Wrong training settings: {wrong}.", "See TrainConfig in pipeline_lib/config.py."
        ) from error
