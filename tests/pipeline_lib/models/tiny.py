"""Random base models of a few thousand parameters in the official layout, and small datasets to train them on."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipeline_lib.core import schemas
from pipeline_lib.core.config import BaseModel, EncodeConfig
from pipeline_lib.core.digest import text_id
from pipeline_lib.core.store import Dataset, writer

SIDE = 8
ENCODE = EncodeConfig(resolution=SIDE, batch_size=4)
PROMPTS = ("a red circle", "a blue square")


def _tokenizer() -> CLIPTokenizer:
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocab = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=12)


def _text_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=54,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        projection_dim=8,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )


def _vae() -> AutoencoderKL:
    """A random VAE whose posterior is narrow enough for bright and dark images to differ."""
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=SIDE,
        scaling_factor=2.0,
    )
    with torch.no_grad():
        vae.quant_conv.bias[4:] -= 3  # log variance
    return vae


def _unet(context: int, **extra: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=context,
        **extra,
    )


def _scheduler(prediction: str) -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=prediction,
        clip_sample=False,
        steps_offset=1,
    )


def write_sd(folder: Path, prediction: str = "epsilon", added_text: bool = False) -> None:
    """A StableDiffusionPipeline; `added_text` gives its UNet the extra text embedding of the built-in world's."""
    torch.manual_seed(1)
    extra = {"addition_embed_type": "text", "addition_embed_type_num_heads": 2} if added_text else {}
    StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(16)),
        tokenizer=_tokenizer(),
        unet=_unet(16, **extra),
        scheduler=_scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def write_sdxl(folder: Path, prediction: str = "epsilon") -> None:
    """A StableDiffusionXLPipeline with two text encoders of different width."""
    torch.manual_seed(2)
    StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(16)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(8)),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        unet=_unet(
            24,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=8 + 24,
        ),
        scheduler=_scheduler(prediction),
    ).save_pretrained(folder)


def base(mirror: Path, name: str) -> BaseModel:
    """The base model of one of the folders of `write_all`."""
    family: Literal["sd", "sdxl"] = "sdxl" if name.startswith("xl") else "sd"
    return BaseModel(family=family, repo=f"tiny/{name}", mirror=str(mirror))


NAMES = ("epsilon", "v", "xl", "xl-v")


def write_all(mirror: Path) -> None:
    """A mirror with one base model for each of `NAMES`."""
    write_sd(mirror / "tiny/epsilon")
    write_sd(mirror / "tiny/v", "v_prediction", added_text=True)
    write_sdxl(mirror / "tiny/xl")
    write_sdxl(mirror / "tiny/xl-v", "v_prediction")


def png(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    """A noisy image, dark for even seeds and bright for odd ones."""
    pixels = np.random.default_rng(seed).integers(0, 100, (size[1], size[0], 3), np.uint8) + np.uint8(seed % 2 * 150)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def ingest(store: str, pairs: int = 12, side: int = SIDE) -> Dataset:
    """An ingested dataset: `pairs` (even) pairs over as many images in two shards; the brighter image wins."""
    w = writer(store, "ingest", 1, {"pairs": pairs, "side": side})
    if done := w.finished():
        return done
    images = [
        {
            "image_uid": f"image-{i:02d}",
            "bytes": png(i, (side, side)),
            "width": side,
            "height": side,
            "sha256": hashlib.sha256(png(i, (side, side))).hexdigest(),
        }
        for i in range(pairs)
    ]
    rows = [
        {
            "pair_id": f"pair-{i:02d}",
            "prompt_id": text_id(PROMPTS[i // 2 % 2]),
            "prompt": PROMPTS[i // 2 % 2],
            "image_0": f"image-{i:02d}",
            "image_1": f"image-{(i + 1) % pairs:02d}",
            "label_0": float(i % 2),
            "split": "train",
        }
        for i in range(pairs)
    ]
    half = pairs // 2
    return w.commit(
        [
            w.write_table("pairs/part-00000.parquet", pa.Table.from_pylist(rows, schema=schemas.PAIRS)),
            w.write_table("images/part-00000.parquet", pa.Table.from_pylist(images[:half], schema=schemas.IMAGES)),
            w.write_table("images/part-00001.parquet", pa.Table.from_pylist(images[half:], schema=schemas.IMAGES)),
        ]
    )


def label(store: str, ingested: Dataset, kind: str = "human") -> Dataset:
    """Labels: "human" (hard), "soft", or "dedpo" (a third human, g_hat for all)."""
    w = writer(store, "labels", 1, {"kind": kind}, [ingested])
    if done := w.finished():
        return done
    rows = []
    for i, pair in enumerate(ingested.scan("pairs").sort("pair_id").collect().to_dicts()):
        human = kind != "dedpo" or i % 3 == 0
        g_hat = 0.3 if i % 2 else 0.8
        target = g_hat if kind == "soft" or not human else pair["label_0"]
        rows.append(
            {
                **{name: pair[name] for name in ("pair_id", "prompt_id", "image_0", "image_1")},
                "target": target,
                "is_human": human,
                "human": pair["label_0"] if human else None,
                "g_hat": None if kind == "human" else g_hat,
                "flipped": False,
                "weight": 1.0,
                "source": "human" if human else "g_hat",
            }
        )
    table = pa.Table.from_pylist(rows, schema=schemas.LABELS)
    return w.commit([w.write_table("part-00000.parquet", table)])
