"""Latents to images in the precision that the VAE was loaded in, whatever that of the UNet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


@torch.no_grad()
def decode(pipeline: Any, latents: Tensor) -> np.ndarray:
    """Images of a diffusers pipeline's latents, [n, height, width, 3] in 0..1.

    The stock pipelines decode in the UNet's precision: latents in fp16 do not go into a VAE that `load_vae` kept in
    fp32 because it overflows, and autocast would convert its convolutions back.
    """
    vae = pipeline.vae
    with torch.autocast(latents.device.type, enabled=False):
        pixels = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
    images: np.ndarray = pipeline.image_processor.postprocess(pixels, output_type="np")
    return images
