"""Work of every stage in floating-point operations, two per multiplication and addition.

Counted by torch on the official architectures (tests/pipeline_lib/sizing counts them again), not measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.core.config import EvaluateConfig, TrainConfig
from pipeline_lib.presets.common import Passes
from pipeline_lib.scoring.scorers import SCORERS, towers_of
from pipeline_lib.sizing.bases import BASES
from pipeline_lib.training.methods import METHODS

TERA = 10**12


PASSES = {name: base.passes for name, base in BASES.items()}
"""Of the base models, by preset."""


def score(scorers: Sequence[str], images: int, questions: int, prompts: int) -> int:
    """These reward models; each image (a shared tower once), each (image, prompt), each prompt once."""
    known = [SCORERS.get(name) for name in dict.fromkeys(scorers)]
    image = sum(tower.flops for tower in towers_of(scorers))
    question, prompt = sum(one.question_flops for one in known), sum(one.prompt_flops for one in known)
    return images * image + questions * question + prompts * prompt


def encode(passes: Passes, images: int, prompts: int) -> int:
    """Every image through the VAE's encoder, every prompt through the text encoders."""
    return images * passes.vae_encode + prompts * passes.text


def train(passes: Passes, config: TrainConfig) -> int:
    """All optimizer steps. A pair is two images."""
    return pairs_trained(config) * 2 * forward_passes(config) * passes.unet


def forward_passes(config: TrainConfig) -> int:
    """The work of an image that is trained on, in forward passes of the UNet:

    policy 1, its backward 2 (LoRA 1: no gradients of frozen weights), 1 more where activations are computed again,
    reference 1, Adaptive-DPO's annotators 1 each.
    """
    method = METHODS[config.method]
    count = 1 + (1 if config.adapter == "lora" else 2) + config.gradient_checkpointing
    count += method.reference != "none"
    return count + (len(config.ema_decays) if method.annotators else 0)


def pairs_trained(config: TrainConfig) -> int:
    """Pairs of all optimizer steps, repeats counted."""
    return config.steps * config.batch_size * config.gradient_accumulation


def evaluate(passes: Passes, config: EvaluateConfig, scorers: Sequence[str], models: int, prompts: int) -> int:
    """Paint with guidance (two passes a step), decode, and score with these reward models."""
    images = models * prompts * len(config.seeds)
    painted = images * (2 * config.steps * passes.unet + passes.vae_decode)
    return painted + score(scorers, images, images, prompts)
