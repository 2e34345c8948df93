"""What a LoRA's product is scaled by: kohya's alphas in the file, or PEFT's settings in its header or beside it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.errors import CheckpointError, excerpt

if TYPE_CHECKING:
    from torch import Tensor

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
PEFT_WEIGHTS = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
METADATA = "lora_adapter_metadata"
"""Entry of a file's header in which diffusers keeps PEFT's settings, with the model's name before each."""

_SAME_WEIGHTS = {
    "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "target_modules",
    "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout", "task_type", "peft_type",
    "peft_version", "inference_mode", "auto_mapping", "base_model_name_or_path", "revision", "megatron_core",
    "eva_config", "runtime_config", "ensure_weight_tying", "qalora_group_size",
}  # fmt: skip
"""PEFT's settings that are read here, or change no weight; another one that is set is refused."""
_PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
"""Values of init_lora_weights that leave the base's own weights as they are."""
_UNSET: tuple[Any, ...] = (None, False, "none", [], {})


def scale_of(path: Path, layer: str, rank: int, alpha: Tensor | None, settings: Mapping[str, Any] | None) -> float:
    """alpha / rank; without either kohya, diffusers and PEFT's older files mean 1."""
    told = settings or {}
    if told:
        asked = _pattern(told, "rank_pattern", layer, told.get("r", rank))
        if asked != rank:
            raise CheckpointError(
                f"{path}: {layer} has rank {rank}, but its settings say {asked}.",
                "Give the file together with its own settings.",
            )
    by_settings = _pattern(told, "alpha_pattern", layer, told.get("lora_alpha"))
    by_file = None if alpha is None else alpha.item() if alpha.numel() == 1 else math.nan
    value = by_settings if by_file is None else by_file
    if value is None:
        return 1.0
    numeric = isinstance(value, int | float) and math.isfinite(value) and value > 0
    if not numeric or (by_settings is not None and by_settings != value):
        raise CheckpointError(
            f"{path}: {layer} has the alpha {value}{f', and {by_settings} in its settings' if told else ''}.",
            "Give a LoRA with one alpha above 0 for each layer.",
        )
    return value / (math.sqrt(rank) if told.get("use_rslora") else rank)


def _pattern(settings: Mapping[str, Any], name: str, layer: str, otherwise: Any) -> Any:
    patterns = settings.get(name) or {}
    if not isinstance(patterns, dict):
        raise ValueError(f"{name} is {excerpt(patterns)}, no JSON object")
    if not patterns:
        return otherwise
    from peft.utils.other import get_pattern_key  # slow to load, and most LoRAs have no patterns

    try:
        return patterns.get(get_pattern_key(list(patterns), layer), otherwise)
    except re.error as error:
        raise ValueError(f"{name} holds {excerpt(error.pattern)}: {error}") from error


def read_settings(path: Path, header: Mapping[str, str], peft: bool) -> Mapping[str, Any] | None:
    """PEFT's settings of the LoRA, from its file's header or from beside it; None where it has none."""
    source, settings = f"{path} ({METADATA})", None
    beside = path.with_name(PEFT_CONFIG)
    if METADATA in header:
        content = _object(source, header[METADATA])
        settings = {name.removeprefix("unet."): value for name, value in content.items()}
    elif path.name == PEFT_WEIGHTS and beside.is_file():
        source = str(beside)
        settings = _object(source, beside.read_text(encoding="utf-8"))
    elif peft:
        raise CheckpointError(
            f"{path} was saved by PEFT, and its {PEFT_CONFIG} is not there: only that says by what it is scaled.",
            f"Give the folder with {PEFT_WEIGHTS} and {PEFT_CONFIG}, both under these names.",
        )
    if settings is not None:
        _check_settings(source, settings)
    return settings


def _object(source: str, text: str) -> dict[str, Any]:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError(f"{source} holds no JSON object")
    return content


def _check_settings(source: str, settings: Mapping[str, Any]) -> None:
    kind = str(settings.get("peft_type") or "LORA").rpartition(".")[2].upper()
    wrong = {} if kind == "LORA" else {"peft_type": kind}
    wrong |= {name: value for name, value in settings.items() if name not in _SAME_WEIGHTS and value not in _UNSET}
    start = settings.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        wrong["init_lora_weights"] = start
    if wrong:
        told = ", ".join(f"{name}={excerpt(value)}" for name, value in wrong.items())
        raise CheckpointError(
            f"{source}: {told} is not read: it changes more than scale * B A adds.",
            "Merge this adapter with PEFT (merge_and_unload) and give the UNet that it makes.",
        )
