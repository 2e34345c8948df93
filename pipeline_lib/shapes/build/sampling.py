"""Samples of the base model through the stock diffusers pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

STEPS = 20
BATCH = 64


def load_base(folder: Path) -> StableDiffusionPipeline:
    """The base model in fp32, silent, without a safety checker."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(
    pipeline: StableDiffusionPipeline, captions: Sequence[str], guidance: float, seed: int, steps: int = STEPS
) -> NDArray[np.uint8]:
    """One image (n, 32, 32, 3) per caption; image i starts from noise seeded by seed + i."""
    images: list[NDArray[np.floating]] = []
    for start in range(0, len(captions), BATCH):
        prompts = list(captions[start : start + BATCH])
        generators = [torch.Generator().manual_seed(seed + start + index) for index in range(len(prompts))]
        out = pipeline(
            prompts, num_inference_steps=steps, guidance_scale=guidance, generator=generators, output_type="np"
        )
        images.append(out.images)
    return np.round(np.concatenate(images) * 255).astype(np.uint8)
