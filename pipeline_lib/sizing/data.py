"""Bytes of the datasets between the stages, from the schemas: what one row holds, times the rows."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.sizing.bases import FP16, LATENT_CHANNELS, REDUCTION, TOKENS, Base


@dataclass(frozen=True, kw_only=True)
class Source:
    """Counts of a source of pairs; `bytes` of its files, `image_bytes` of one encoded image on average."""

    pairs: int
    prompts: int
    images: int
    image_bytes: int


PICKAPIC_ROWS, PICKAPIC_BYTES = 959_040, 335_000_000_000
"""Training split of Pick-a-Pic v2 by its dataset card (huggingface.co/datasets/liuhuohuo2/pick-a-pic-v2)."""
PICKAPIC_PROMPTS = 58_960
"""Unique prompts by Diffusion-DPO, arXiv 2311.12908, section 5.1."""
PAIRS_PER_IMAGE = 1.8
"""Assumed: the winner of a pair stays for the next one. Ingest counts the real number of unique images."""

PICKAPIC_V2 = Source(
    pairs=PICKAPIC_ROWS,
    prompts=PICKAPIC_PROMPTS,
    images=round(2 * PICKAPIC_ROWS / PAIRS_PER_IMAGE),
    image_bytes=PICKAPIC_BYTES // (2 * PICKAPIC_ROWS),
)


def image_store_bytes(source: Source) -> int:
    """ingest: every unique image once, its bytes as they are (JPEG does not compress further)."""
    return source.images * source.image_bytes


def latent_bytes(images: int, resolution: int, flipped: bool = False) -> int:
    """encode: mean and standard deviation of the VAE's posterior per image, fp16: 4 x (side / 8)^2 numbers each."""
    numbers = LATENT_CHANNELS * (resolution // REDUCTION) ** 2
    return images * numbers * FP16 * (4 if flipped else 2)


def text_bytes(prompts: int, base: Base) -> int:
    """encode: 77 token embeddings per prompt, and the pooled one where the family has it, fp16."""
    return prompts * (TOKENS * base.text_width + base.pooled_width) * FP16
