"""Bytes of the datasets between the stages, from the schemas: what one row holds, times the rows."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.sizing.bases import FP16, LATENT_CHANNELS, REDUCTION


@dataclass(frozen=True, kw_only=True)
class Source:
    """Counts of a source of pairs; `image_bytes` of one encoded image on average."""

    pairs: int
    prompts: int
    images: int
    image_bytes: int


PICKAPIC_ROWS, PICKAPIC_BYTES = 959_040, 335_000_000_000
"""Training split of Pick-a-Pic v2 by its dataset card (huggingface.co/datasets/liuhuohuo2/pick-a-pic-v2)."""
PICKAPIC_PROMPTS = 58_960
"""Unique prompts by Diffusion-DPO (arXiv 2311.12908), in its 851,293 pairs without ties."""
PAIRS_PER_IMAGE = 1.8
"""Assumed, as in tests/bench/score.py: sessions of ten images that keep the winner. Ingest counts the real number."""

SCORE_ROW = 36 + 32 + 4
LABEL_ROW = 32 + 32 + 2 * 36 + 6 * 4 + 8
"""Bytes of a row before compression."""

PICKAPIC_V2 = Source(
    pairs=PICKAPIC_ROWS,
    prompts=PICKAPIC_PROMPTS,
    images=round(2 * PICKAPIC_ROWS / PAIRS_PER_IMAGE),
    image_bytes=PICKAPIC_BYTES // (2 * PICKAPIC_ROWS),
)


def image_store_bytes(source: Source) -> int:
    """ingest: every unique image once, its bytes as they are (JPEG does not compress further)."""
    return source.images * source.image_bytes


def latent_numbers(resolution: int, reduction: int = REDUCTION) -> int:
    """Numbers of a latent: 4 channels, a side in pixels over `reduction` squared (the built-in world's VAE: 2)."""
    return LATENT_CHANNELS * (resolution // reduction) ** 2


def latent_bytes(images: int, numbers: int, flipped: bool = False) -> int:
    """encode: mean and standard deviation of the VAE's posterior per image, fp16; flipped images as well."""
    return images * numbers * FP16 * (4 if flipped else 2)


def text_bytes(prompts: int, tokens: int, width: int, pooled: int = 0) -> int:
    """encode: an embedding per token of a prompt, and the pooled one where the family has it, fp16."""
    return prompts * (tokens * width + pooled) * FP16


def score_bytes(source: Source, scorers: int) -> int:
    """score: a row per (image, prompt), its two sides of every pair at most, for each reward model.

    Parquet keeps the two ids (36 and 32 characters) and the fp32 score; sorted and compressed they take less.
    """
    return 2 * source.pairs * scorers * SCORE_ROW


def label_bytes(source: Source) -> int:
    """label: a row per pair: four ids, six numbers, a word; before compression."""
    return source.pairs * LABEL_ROW


def evaluation_bytes(images: int, resolution: int) -> int:
    """evaluate: PNG files, at most three bytes a pixel."""
    return images * 3 * resolution**2
