"""`encode`: latent and text-embedding caches for training."""

from __future__ import annotations

from typing import Literal

from prefect import flow

from flows.ingest import ingest
from pipeline_lib.config import override
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.base import base_model
from tasks.encode import encode as encode_task
from tasks.outcome import Outcome
from tasks.settings import store_url


@flow(name="encode")
def encode(
    preset: PresetName = "shapes",
    source: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    resolution: int | None = None,
    aspect: Literal["crop", "pad", "stretch"] | None = None,
    flipped: bool | None = None,
    pairs: str | None = None,
    base: str | None = None,
    store: str | None = None,
) -> Outcome:
    """Cache VAE moments of every image and text embeddings of every prompt for the preset's base model.

    Args:
        preset: Base model and settings.
        source: Source of pairs, when `pairs` is empty.
        split: Split to read, when `pairs` is empty.
        limit: At most this many source rows, when `pairs` is empty.
        resolution: Side of the square that images become, in pixels.
        aspect: How they become square: centre crop, black bars, or stretched.
        flipped: Also encode every image mirrored, for training with flips.
        pairs: URI of an ingest dataset; empty runs ingest.
        base: Base model of the same family instead of the preset's: <org>/<name>[@<revision>], a local folder,
            or an MLflow model URI such as models:/balanced-sdxl@champion.
        store: Dataset store; empty for the machine's default.
    """
    chosen = find_preset(preset)
    pairs = pairs or ingest(preset, source, split, limit, store=store).uri
    config = override(chosen.encode, resolution=resolution, aspect=aspect, flipped=flipped)
    return encode_task(store_url(store), base_model(preset, base), config, pairs)
