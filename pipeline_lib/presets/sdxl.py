"""Stable Diffusion XL, with the papers' hyper-parameters; docs/presets.md gives every number's source."""

from __future__ import annotations

from dataclasses import replace

from pipeline_lib.core.config import BaseModel
from pipeline_lib.presets import sd15
from pipeline_lib.presets.common import Passes, Sizes, methods

DPO = replace(sd15.DPO, batch_size=4, gradient_accumulation=512, warmup_steps=200, optimizer="adafactor")
BALANCED = replace(sd15.BALANCED, batch_size=4, gradient_accumulation=32, optimizer="adafactor")
# DeDPO on SDXL: 100 steps, Adafactor, learning rate 2e-8, times a batch of 128 that is assumed.
DEDPO = replace(
    sd15.DEDPO,
    batch_size=4,
    gradient_accumulation=32,
    learning_rate=2.56e-6,
    steps=100,
    optimizer="adafactor",
    checkpoint_every=20,
    sample_every=20,
)
# Adaptive-DPO on SDXL: beta 2500 without the half, k1 = 1.
ADAPTIVE = replace(sd15.ADAPTIVE, batch_size=4, gradient_accumulation=32, beta=5000.0, k1=1.0)

PRESET = replace(
    sd15.PRESET,
    base=BaseModel(
        family="sdxl",
        repo="stabilityai/stable-diffusion-xl-base-1.0",
        revision="462165984030d82259a11f4367a4eed129e94a7b",
        vae_repo="madebyollin/sdxl-vae-fp16-fix",
        vae_revision="207b116dae70ace3637169f1ddd2434b91b3a8cd",
    ),
    encode=replace(sd15.PRESET.encode, resolution=1024, batch_size=8),
    methods=methods(DPO, BALANCED, DEDPO, ADAPTIVE),
    evaluate=replace(sd15.PRESET.evaluate, resolution=1024, guidance=5.0, scheduler="euler", batch_size=4),
    sizes=Sizes(
        unet=2_567_463_684,
        text=123_060_480 + 694_659_840,
        vae=2 * sd15.VAE,  # the replacement, and the pipeline's own beside it
        text_width=2048,
        pooled_width=1280,
        passes=Passes(
            unet=6_761_236_398_080, vae_encode=4_878_950_727_680, vae_decode=10_470_392_594_432, text=111_161_610_240
        ),
    ),
)
