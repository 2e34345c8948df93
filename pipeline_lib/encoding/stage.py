"""Encode stage: VAE moments once per image, text embeddings once per prompt, so that training holds neither encoder.

The posterior is kept as (mean, std) and sampled at training time, so a cached latent is as random as a fresh one.
Images: resized by PIL's antialiased bilinear filter (as Diffusion-DPO), made square by `EncodeConfig.aspect`, [-1, 1].
All are of one size: an image belongs to several pairs, and both images of a pair share their conditioning.
Moments are before the VAE's scaling factor, which training applies (schema metadata carries it). Storage is fp16.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from pipeline_lib.core import schemas
from pipeline_lib.core.config import BaseModel, EncodeConfig, require
from pipeline_lib.core.errors import CheckpointError, SourceError, UnreadableImageError
from pipeline_lib.core.images import decode
from pipeline_lib.core.resident import release, resident
from pipeline_lib.core.store import Dataset, DatasetWriter, Shard, open_dataset
from pipeline_lib.core.threads import one_thread
from pipeline_lib.encoding.plan import (
    LATENTS,
    PROMPTS,
    PROMPTS_PER_SHARD,
    SHAPE_KEY,
    Encoding,
    open_encoding,
    unique_prompts,
)
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.components import load_text_pipeline, load_vae
from pipeline_lib.models.family import Family
from pipeline_lib.models.parts import encoder_digest

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Progress = Callable[[int, int], None]
Aspect = Literal["crop", "pad", "stretch"]


@dataclass(frozen=True)
class Encoder:
    """The loaded encoders of a base model."""

    family: Family
    vae: Any
    text: Any
    config: EncodeConfig
    device: str


def encode(
    store: str,
    model: BaseModel,
    config: EncodeConfig,
    ingested: Dataset,
    progress: Progress | None = None,
    device: str | None = None,
) -> Dataset:
    """Latents of every ingested image and embeddings of every prompt, plus the empty one, in this process.

    Args:
        progress: called with (shards done, shards in all).
        device: where the encoders run; None takes CUDA where there is one.

    Raises:
        ConfigError: the base model is of a kind that is not known here.
        HubError, CheckpointError: it cannot be fetched or loaded.
        CheckpointError: the VAE gave values that are not finite.
    """
    work = open_encoding(store, model, config, ingested)
    if isinstance(work, Dataset):
        return work
    shards = []
    try:
        for index in range(work.shards):
            shards.append(encode_shard(work, index, device))
            if progress:
                progress(index + 1, work.shards)
    finally:
        release()
    return work.writer.commit(shards)


def encode_shard(work: Encoding, index: int, device: str | None = None) -> Shard:
    """Encode and publish one shard, or find where an earlier run has left it.

    Raises:
        ConfigError: this machine finds other weights than the one that planned the work.
        HubError, CheckpointError: as `encode`.
    """
    images = index < work.image_shards
    path = _path(LATENTS, index) if images else _path(PROMPTS, index - work.image_shards)
    if existing := work.writer.existing(path):
        return existing
    encoder, ingested = _resident_encoder(work, device), open_dataset(work.ingested)
    with one_thread(encoder.device):
        if images:
            return encode_images(work.writer, ingested, index, encoder)
        prompts = resident("prompts", f"{work.ingested} {ingested.digest}", lambda: unique_prompts(ingested))
        return encode_prompts(work.writer, prompts, index - work.image_shards, encoder)


def _resident_encoder(work: Encoding, device: str | None) -> Encoder:
    """The encoders on `device`, loaded on the first call; other threads wait for it."""

    def load() -> Encoder:
        encoder = open_encoder(work.model, work.config, device)
        # Looked at afterwards: files may have been changed until they were read.
        require(
            work.writer.config["model"]["weights"] == encoder_digest(work.model),
            f"The files of {work.model.repo} on this machine are not those of the run.",
            "Give every machine the same weights, and leave them alone while they are read.",
        )
        return encoder

    return resident(device or "auto", work.writer.uri, load)


def open_encoder(model: BaseModel, config: EncodeConfig, device: str | None = None) -> Encoder:
    """Load VAE and text encoders in the precision of `config`; device None takes CUDA where there is one.

    Raises:
        ConfigError: the VAE cannot encode images of this size.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = DTYPES[config.mixed_precision]
    vae = load_vae(model, dtype).to(device).eval()
    factor = _factor(vae)
    require(
        config.resolution > 0 and config.resolution % factor == 0,
        f"resolution is {config.resolution}, but a latent stands for {factor} x {factor} pixels.",
        f"Give a multiple of {factor}.",
    )
    text = load_text_pipeline(model, dtype, device)
    if config.empty_prompt == "encoded" and "force_zeros_for_empty_prompt" in text.config:
        text.register_to_config(force_zeros_for_empty_prompt=False)
    return Encoder(FAMILIES.get(model.family), vae, text, config, device)


@torch.inference_mode()
def encode_images(w: DatasetWriter, ingested: Dataset, index: int, encoder: Encoder) -> Shard:
    """Publish the latents of one shard of images."""
    config = encoder.config
    table = ingested.read(ingested.tables("images")[index])
    names = schemas.moment_columns(config.flipped)
    # A shard may be empty; the VAE's configuration still says how wide its latents are.
    side = config.resolution // _factor(encoder.vae)
    empty = np.zeros((0, encoder.vae.config.latent_channels, side, side), np.float32)
    found: dict[str, list[np.ndarray]] = {name: [empty] for name in names}
    boxes = []
    for rows in _batches(table.num_rows, config.batch_size):
        pixels = []
        for row in rows:
            uid = table["image_uid"][row].as_py()
            image, box = _square(table["bytes"][row].as_py(), config.resolution, uid, config.aspect)
            pixels.append(image)
            boxes.append(box)
        batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(encoder.device, torch.float32)
        views = [batch, batch.flip(-1)] if config.flipped else [batch]
        moments = [m for view in views for m in _moments(encoder.vae, view / 127.5 - 1)]
        for name, values in zip(names, moments, strict=True):
            found[name].append(values.float().cpu().numpy())
    shape = empty.shape[1:]
    columns = {
        "image_uid": table["image_uid"],
        **{name: _fixed(np.concatenate(values), "latents") for name, values in found.items()},
        **{name: pa.array([box[i] for box in boxes], pa.int32()) for i, name in enumerate(_BOX)},
    }
    meta = {"shape": shape, "scaling_factor": encoder.vae.config.scaling_factor, "resolution": config.resolution}
    if config.flipped:
        meta["flipped"] = True
    schema = schemas.latents(int(np.prod(shape)), config.flipped)
    schema = schema.with_metadata({SHAPE_KEY: json.dumps(meta).encode()})
    return w.write_table(_path(LATENTS, index), pa.table(columns, schema=schema), {"images": table.num_rows})


@torch.inference_mode()
def encode_prompts(w: DatasetWriter, prompts: pl.DataFrame, index: int, encoder: Encoder) -> Shard:
    """Publish the embeddings of one shard of `unique_prompts`."""
    part = prompts.slice(index * PROMPTS_PER_SHARD, PROMPTS_PER_SHARD)
    texts = part["prompt"].to_list()
    embeddings: list[np.ndarray] = []
    pooled: list[np.ndarray] = []
    for rows in _batches(len(texts), encoder.config.batch_size):
        hidden, pool = encoder.family.encode_prompts(encoder.text, [texts[row] for row in rows])
        embeddings.append(hidden.float().cpu().numpy())
        if pool is not None:
            pooled.append(pool.float().cpu().numpy())
    embedding = np.concatenate(embeddings)
    columns = {
        "prompt_id": part["prompt_id"].to_arrow().cast(pa.string()),
        "embedding": _fixed(embedding, "embeddings"),
    }
    width = 0
    if pooled:
        columns["pooled"] = _fixed(np.concatenate(pooled), "pooled embeddings")
        width = pooled[0].shape[1]
    meta = {"shape": embedding.shape[1:], "pooled": width}
    schema = schemas.prompt_embeddings(int(np.prod(embedding.shape[1:])), width)
    schema = schema.with_metadata({SHAPE_KEY: json.dumps(meta).encode()})
    return w.write_table(_path(PROMPTS, index), pa.table(columns, schema=schema), {"prompts": len(texts)})


def _moments(vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    posterior = vae.encode(pixels.to(vae.dtype)).latent_dist
    return posterior.mean, posterior.std


_BOX = ("original_height", "original_width", "crop_top", "crop_left")


def _factor(vae: Any) -> int:
    return 2 ** (len(vae.config.block_out_channels) - 1)


def _square(
    encoded: bytes, side: int, uid: str, aspect: Aspect = "crop"
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """uint8 [side, side, 3], with (original height, original width, crop top, crop left in the resized image).

    Where bars were added, the crop begins outside of the image: its top or left is negative.
    """
    try:
        image = decode(encoded)
    except UnreadableImageError as error:
        raise SourceError(f"Image {uid}: {error.problem}", "Ingest again; it quarantines such rows.") from error
    width, height = image.size
    scale = side / (max(width, height) if aspect == "pad" else min(width, height))
    resized = (max(1, round(width * scale)), max(1, round(height * scale)))
    if aspect == "stretch":
        resized = (side, side)
    if resized != image.size:
        image = image.resize(resized, Image.Resampling.BILINEAR)
    top, left = (resized[1] - side) // 2, (resized[0] - side) // 2
    image = image.crop((left, top, left + side, top + side))  # black beyond its edges
    return np.asarray(image), (height, width, top, left)


def _fixed(values: np.ndarray, what: str) -> pa.FixedSizeListArray:
    """Rows of an array as fp16 lists of fixed size; raises CheckpointError for values that are not finite in fp16."""
    with np.errstate(over="ignore"):  # checked below
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise CheckpointError(
            f"The base model gave {what} that are not finite in fp16.",
            "Encode with mixed_precision='no' or 'bf16'; for SDXL also set vae_repo='madebyollin/sdxl-vae-fp16-fix'.",
        )
    return pa.FixedSizeListArray.from_arrays(pa.array(half.reshape(-1)), int(np.prod(values.shape[1:])))


def _batches(total: int, size: int) -> Iterator[range]:
    for start in range(0, total, size):
        yield range(start, min(start + size, total))


def _path(table: str, index: int) -> str:
    return f"{table}/part-{index:05d}.parquet"
