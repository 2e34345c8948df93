"""Aligned models: the base with a trained LoRA or UNet, as a diffusers pipeline.

A model directory (written by training) holds `pytorch_lora_weights.safetensors` or `unet/`, and `base.json`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.config import BaseModel
from pipeline_lib.errors import CheckpointError
from pipeline_lib.json_files import read_json
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.components import folder, load_unet, load_vae, pipeline_from, pipeline_parts, quiet, unet_from
from pipeline_lib.models.family import Family
from pipeline_lib.models.published import save

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
UNET = "unet"
BASE = "base.json"


def write_base(base: BaseModel, out: Path) -> None:
    """Record which base a model belongs to."""
    (out / BASE).write_text(json.dumps(asdict(base), indent=1, sort_keys=True) + "\n")


def read_base(model_dir: Path) -> BaseModel:
    """The base a model belongs to; raises CheckpointError when the directory is not a model."""
    remedy = "Give a directory that training wrote."
    said = read_json(model_dir / BASE, CheckpointError, remedy)
    try:
        return BaseModel(**said)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{model_dir / BASE} names no base model: {error}.", remedy) from error


def load_pipeline(
    model_dir: Path | None, base: BaseModel, torch_dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Any:
    """The base model's diffusers pipeline with the trained weights of `model_dir`, or the base itself for None.

    A LoRA is fused in fp32, whatever `torch_dtype`: the weights are those that `export` publishes, to the last bit.

    Raises:
        HubError: the base cannot be fetched.
        CheckpointError: `model_dir` holds neither a LoRA nor a UNet, or they do not fit the base.
    """
    family: Family = FAMILIES.get(base.family)
    parts: dict[str, Any] = dict(family.absent)
    full = model_dir is not None and (model_dir / UNET).is_dir()
    lora = model_dir is not None and (model_dir / LORA_WEIGHTS).is_file()
    if model_dir is not None and not (full or lora):
        raise CheckpointError(
            f"{model_dir} holds neither {LORA_WEIGHTS} nor a {UNET} folder.", "Give a directory that training wrote."
        )
    needed = [part for part in pipeline_parts(family) if part != "vae" and not (part == "unet" and full)]
    root = folder(base, needed)
    quiet()
    parts["vae"] = load_vae(base, torch_dtype)
    if full and model_dir:
        parts["unet"] = unet_from(model_dir / UNET, torch_dtype)
    else:
        parts["unet"] = load_unet(base, torch.float32 if lora else torch_dtype)
    pipeline = pipeline_from(family, root, torch_dtype, parts)
    if lora and model_dir:
        _fuse_lora(pipeline, model_dir)
        pipeline.unet.to(torch_dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def export(model_dir: Path, base: BaseModel, out: Path) -> Path:
    """Write a complete diffusers folder in fp32, any LoRA fused; `DiffusionPipeline.from_pretrained(out)` loads it."""
    return save(load_pipeline(model_dir, base), base, out)


def _fuse_lora(pipeline: Any, model_dir: Path) -> None:
    try:
        pipeline.load_lora_weights(model_dir, weight_name=LORA_WEIGHTS)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{model_dir / LORA_WEIGHTS} does not fit {type(pipeline).__name__}: {error}",
            f"Use the base recorded in {BASE}.",
        ) from error
