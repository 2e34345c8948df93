"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, epsilon or v prediction by the scheduler's configuration.

A UNet with `addition_embed_type="text"` derives its extra embedding from `encoder_hidden_states` itself, so it needs
nothing beyond what the stock pipeline passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline_lib.models.family import Family

if TYPE_CHECKING:
    from torch import Tensor


def encode_prompts(pipeline: Any, prompts: list[str]) -> tuple[Tensor, None]:
    """Last hidden state of the text encoder, after its final norm: [n, tokens, width]."""
    embeddings, _ = pipeline.encode_prompt(
        prompts, device=pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return embeddings, None


def conditioning(embeddings: Tensor, pooled: Tensor | None, resolution: int) -> dict[str, Any]:
    """Cross-attention context only."""
    return {"encoder_hidden_states": embeddings}


SD = Family(
    name="sd",
    pipeline="StableDiffusionPipeline",
    text_parts=("tokenizer", "text_encoder"),
    added_embeddings=(None, "text"),
    old_scale=True,
    absent={"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    encode_prompts=encode_prompts,
    conditioning=conditioning,
)
