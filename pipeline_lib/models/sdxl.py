"""Stable Diffusion XL: two text encoders, pooled text and size conditioning.

Conventions (reference: Diffusion-DPO's train.py unless said otherwise):
- embeddings: the penultimate hidden states of both encoders, concatenated on the width; pooled: the projection of the
  second encoder.
- time ids: (resolution, resolution, 0, 0, resolution, resolution) = original size, crop corner, target size, the same
  for every image. The latents do carry the real sizes, but a pair must share its conditioning.
- empty prompt: zeros where the pipeline zeroes its unconditional embedding (`force_zeros_for_empty_prompt`), because
  that is what guidance uses at inference; Diffusion-DPO encodes "" instead (`EncodeConfig.empty_prompt`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline_lib.models.family import Family

if TYPE_CHECKING:
    from torch import Tensor


def encode_prompts(pipeline: Any, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Embeddings [n, tokens, width_1 + width_2] and pooled text [n, projection of the second encoder]."""
    embeddings, _, pooled, _ = pipeline.encode_prompt(
        prompts, device=pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    if pipeline.config.force_zeros_for_empty_prompt:
        import torch

        empty = torch.tensor([prompt == "" for prompt in prompts], device=embeddings.device)
        embeddings = embeddings.masked_fill(empty[:, None, None], 0)
        pooled = pooled.masked_fill(empty[:, None], 0)
    return embeddings, pooled


def conditioning(embeddings: Tensor, pooled: Tensor | None, resolution: int) -> dict[str, Any]:
    """Cross-attention context, pooled text, and the six time ids."""
    if pooled is None:
        raise ValueError("SDXL needs pooled text embeddings")
    import torch

    ids = torch.tensor(
        [resolution, resolution, 0, 0, resolution, resolution], device=pooled.device, dtype=pooled.dtype
    )
    added = {"text_embeds": pooled, "time_ids": ids.expand(len(pooled), 6)}
    return {"encoder_hidden_states": embeddings, "added_cond_kwargs": added}


SDXL = Family(
    name="sdxl",
    pipeline="StableDiffusionXLPipeline",
    text_parts=("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2"),
    added_embeddings=("text_time",),
    absent={"feature_extractor": None, "image_encoder": None},
    encode_prompts=encode_prompts,
    conditioning=conditioning,
)
