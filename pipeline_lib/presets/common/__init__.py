"""What a preset consists of. Beside this folder lies one file per preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline_lib.core.config import BaseModel, EncodeConfig, EvaluateConfig, IngestConfig, TrainConfig

PICKAPIC_V2 = "hf://datasets/liuhuohuo2/pick-a-pic-v2@f602d48"
FP32 = 4
"""Bytes of a number."""


@dataclass(frozen=True, kw_only=True)
class Passes:
    """FLOPs at the preset's resolution: a UNet's forward pass and the VAE for one image, one prompt."""

    unet: int
    vae_encode: int
    vae_decode: int
    text: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Parameters of a base model's parts; `text_width` of a token's embedding, `pooled_width` of the pooled text (0:
    none). Counted on the official configurations (tests/pipeline_lib/sizing checks SD 1.5 and SDXL)."""

    unet: int
    text: int
    vae: int
    text_width: int
    pooled_width: int = 0
    passes: Passes

    @property
    def download_bytes(self) -> int:
        """Of the fp32 weights in safetensors, which the pipeline reads."""
        return FP32 * (self.unet + self.text + self.vae)


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
    sizes: Sizes | None = None
    """Of the base model, for what runs take and cost; None where nobody asks: it takes minutes."""
    held_out: IngestConfig | None = None
    """Pairs for measuring what a trained model prefers; None for none unless a run names some."""


def methods(
    dpo: TrainConfig, balanced: TrainConfig, dedpo: TrainConfig, adaptive: TrainConfig
) -> dict[str, Alignment]:
    """The methods of the papers, each with the label recipe that it is for."""
    return {
        "dpo": Alignment(labels="human", train=dpo),
        "balanced": Alignment(labels="balanced", train=balanced),
        "dedpo": Alignment(labels="dedpo25", train=dedpo),
        "adaptive": Alignment(labels="human", train=adaptive),
    }
