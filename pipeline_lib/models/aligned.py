"""Aligned models: the base with a trained LoRA or UNet, as a diffusers pipeline.

A model directory (written by training) holds `pytorch_lora_weights.safetensors` or `unet/`, and `base.json`. What
others publish alone, a UNet or a LoRA, is loaded the same way (`alone.weights_in`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import torch

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.weights.files import DIFFUSERS
from pipeline_lib.core.weights.read import check, check_finite
from pipeline_lib.core.whole import whole_folder
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.alone import UNET, Weights, check_interface, weights_in
from pipeline_lib.models.components import (
    empty_unet,
    load_unet,
    load_vae,
    pipeline_from,
    quiet,
    unet_from,
)
from pipeline_lib.models.family import Family
from pipeline_lib.models.lora import fuse, read_lora
from pipeline_lib.models.lora_settings import LORA_WEIGHTS
from pipeline_lib.models.origin import BASE, check_folder, read_base
from pipeline_lib.models.parts import folder, pipeline_parts
from pipeline_lib.models.published import save
from pipeline_lib.models.supported import check_supported

__all__ = ["BASE", "LORA_WEIGHTS", "UNET", "check_fits", "export", "load_pipeline", "read_base", "write_base"]


def write_base(base: BaseModel, out: Path) -> None:
    """Record which base a model belongs to."""
    (out / BASE).write_text(json.dumps(asdict(base), indent=1, sort_keys=True) + "\n")


def load_pipeline(
    model_dir: Path | None, base: BaseModel, torch_dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Any:
    """The base model's diffusers pipeline with the trained weights of `model_dir`, or the base itself for None.

    A LoRA is fused in fp32, whatever `torch_dtype`: the weights are those that `export` publishes, to the last bit.

    Args:
        model_dir: what `weights_in` reads.

    Raises:
        ConfigError: the base is of a kind that is not known here.
        HubError: it cannot be fetched.
        CheckpointError: `model_dir` holds neither a LoRA nor a UNet, or both, or they do not fit the base.
        ConfigError: it lies in a dataset that was trained from another base.
    """
    check_supported(base)
    if model_dir is not None:
        check_folder(model_dir, base)
    family: Family = FAMILIES.get(base.family)
    parts: dict[str, Any] = dict(family.absent)
    weights = weights_in(model_dir) if model_dir else Weights()
    needed = [part for part in pipeline_parts(family) if part != "vae" and not (part == "unet" and weights.unet)]
    root = folder(base, needed)
    quiet()
    parts["vae"] = load_vae(base, torch_dtype)
    parts["unet"] = _unet(weights, base, torch_dtype)
    pipeline = pipeline_from(family, root, torch_dtype, parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def check_fits(model_dir: Path, base: BaseModel) -> None:
    """Raise CheckpointError, HubError for weights that `load_pipeline` would refuse; no model is built."""
    weights = weights_in(model_dir)
    if weights.unet:
        check(diffusers.UNet2DConditionModel, weights.unet, DIFFUSERS)
        check_interface(weights.unet, base)
    elif weights.lora:
        read_lora(weights.lora, empty_unet(base), base.repo)


def _unet(weights: Weights, base: BaseModel, torch_dtype: torch.dtype) -> Any:
    if weights.unet:
        check_interface(weights.unet, base)
        return unet_from(weights.unet, torch_dtype)
    if weights.lora:
        unet = load_unet(base)
        fuse(unet, read_lora(weights.lora, unet, base.repo))
        for name, parameter in unet.named_parameters():
            check_finite(parameter, name, weights.lora)
        return unet if torch_dtype == torch.float32 else unet.to(torch_dtype)
    return load_unet(base, torch_dtype)


def export(model_dir: Path, base: BaseModel, out: Path) -> Path:
    """Write a complete diffusers folder in fp32, any LoRA fused; `DiffusionPipeline.from_pretrained(out)` loads it.

    Who reads `out` meanwhile sees all of it or nothing.

    Raises:
        as `load_pipeline`.
    """
    with whole_folder(out) as scratch:
        save(load_pipeline(model_dir, base), base, scratch)
    return out
