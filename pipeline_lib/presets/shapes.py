"""The built-in world, with settings found on its validation prompts (docs/world.md)."""

from __future__ import annotations

from dataclasses import replace

from pipeline_lib.core.config import BaseModel, EncodeConfig, EvaluateConfig, IngestConfig, TrainConfig
from pipeline_lib.core.hub import SHAPES_MIRROR
from pipeline_lib.presets.common import Preset, methods
from pipeline_lib.scoring.scorers import defaults

# Tiny models, two cores: full fine-tuning. Found on the validation prompts (docs/world.md).
DPO = TrainConfig(
    method="diffusion-dpo",
    adapter="full",
    beta=500.0,
    steps=300,
    batch_size=16,
    learning_rate=2e-5,
    schedule="linear",
    checkpoint_every=50,
)
BALANCED = replace(DPO, method="balanced-dpo", reference_refresh=75)
DEDPO = replace(DPO, method="dedpo")
# Footprints of .9999 do not move in 300 steps.
ADAPTIVE = replace(DPO, method="adaptive-dpo", ema_decays=(0.99, 0.9))

PRESET = Preset(
    base=BaseModel(family="sd", repo="shapes/base", mirror=SHAPES_MIRROR),
    ingest=IngestConfig(source="shapes://pairs"),
    held_out=IngestConfig(source="shapes://heldout", split="test"),
    scorers=defaults(),
    weights=SHAPES_MIRROR,
    encode=EncodeConfig(resolution=32, batch_size=256),
    methods=methods(DPO, BALANCED, DEDPO, ADAPTIVE),
    evaluate=EvaluateConfig(
        prompts="shapes-test", scheduler="ddim", steps=20, guidance=3.0, resolution=32, batch_size=64
    ),
)
