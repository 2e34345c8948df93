"""Stable Diffusion 1.5, with the papers' hyper-parameters; docs/presets.md gives every number's source.

Learning rates are those that act: papers of this line give them before `--scale_lr`, which multiplies by the pairs of
a step.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline_lib.core.config import BaseModel, EncodeConfig, EvaluateConfig, IngestConfig, TrainConfig
from pipeline_lib.core.hub import HUB
from pipeline_lib.presets.common import PICKAPIC_V2, Passes, Preset, Sizes, methods
from pipeline_lib.scoring.scorers import defaults

# Diffusion-DPO's launchers (reference: sd15.sh, sdxl.sh): 2048 pairs per step, learning rate 1e-8 x 2048.
DPO = TrainConfig(
    method="diffusion-dpo",
    adapter="full",
    beta=5000.0,
    steps=2000,
    batch_size=16,
    gradient_accumulation=128,
    learning_rate=2.048e-5,
    warmup_steps=500,
    mixed_precision="fp16",
    gradient_checkpointing=True,
    prompt_dropout=0.2,
    sample_every=100,
)
# BalancedDPO, "Method Summary": 2000 steps, batch 128, learning rate 1e-8 (x 128), a new reference every 100 steps.
BALANCED = replace(
    DPO,
    method="balanced-dpo",
    gradient_accumulation=8,
    learning_rate=1.28e-6,
    warmup_steps=0,
    reference_refresh=100,
)
# DeDPO: 1,000 steps of 128 pairs, AdamW, learning rate 1e-7 (x 128).
DEDPO = replace(DPO, method="dedpo", gradient_accumulation=8, learning_rate=1.28e-5, warmup_steps=0, steps=1000)
# Adaptive-DPO's launcher: LoRA rank 8, batch 128, beta 1000 without the half (2000 with it), k1 = 10. Metric and
# margin are those of the authors' code, which presumably gave the published tables, where it and the paper differ.
ADAPTIVE = replace(
    DPO,
    method="adaptive-dpo",
    adapter="lora",
    beta=2000.0,
    steps=12_000,
    gradient_accumulation=8,
    learning_rate=1e-5,
    warmup_steps=0,
    prompt_dropout=0.0,
    stability="authors",
    margin_offset="authors",
    sample_every=500,
)

VAE = 83_653_863
"""Parameters."""

PRESET = Preset(
    base=BaseModel(
        family="sd",
        repo="stable-diffusion-v1-5/stable-diffusion-v1-5",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    ),
    ingest=IngestConfig(source=PICKAPIC_V2),
    held_out=IngestConfig(source=PICKAPIC_V2, split="validation_unique"),
    scorers=defaults(),
    weights=HUB,
    encode=EncodeConfig(resolution=512, mixed_precision="fp16"),
    methods=methods(DPO, BALANCED, DEDPO, ADAPTIVE),
    evaluate=EvaluateConfig(
        prompts="pickapic-validation-unique",
        steps=50,
        scheduler="ddim",
        guidance=7.5,
        resolution=512,
        mixed_precision="fp16",
    ),
    sizes=Sizes(
        unet=859_520_964,
        text=123_060_480,
        vae=VAE,
        text_width=768,
        passes=Passes(
            unet=803_273_441_280, vae_encode=1_116_658_466_816, vae_decode=2_514_518_933_504, text=13_298_503_680
        ),
    ),
)
