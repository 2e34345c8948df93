"""A tiny random Stable Diffusion in the official layout, and scorers that need no weights."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from pipeline_lib.core import store
from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.store import Dataset
from pipeline_lib.evaluation import diversity, scores, stage

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SIDE = 32


def tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer of single letters."""
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24)


def unet(seed: int) -> Any:
    torch.manual_seed(seed)
    return diffusers.UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=4,
    )


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A StableDiffusionPipeline folder with random weights: 32 px images, latents 4x16x16."""
    root = tmp_path_factory.mktemp("base")
    tokens = tokenizer(root / "letters")
    torch.manual_seed(0)
    text = transformers.CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=24, bos_token_id=tokens.bos_token_id, eos_token_id=tokens.eos_token_id,
    )  # fmt: skip
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=SIDE,
        ),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=tokens,
        unet=unet(1),
        scheduler=diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(root / "base")
    return BaseModel(family="sd", repo=str(root / "base"))


@pytest.fixture
def trained(base: BaseModel, tmp_path: Path) -> Callable[..., Dataset]:
    """(store, seed, of=base) -> a dataset of stage "model": another random UNet for the base `of`."""

    def make(root: str, seed: int, of: BaseModel = base) -> Dataset:
        folder = tmp_path / f"trained-{seed}"
        unet(seed).save_pretrained(folder / "unet")
        (folder / "base.json").write_text(json.dumps(asdict(of)))
        writer = store.writer(root, "model", 1, {"seed": seed, "base": of.repo})
        return writer.commit(writer.write_folder("model", folder))

    return make


MEASURES = {
    "red": lambda pixels: pixels[..., 0].mean() - pixels.mean(),
    "contrast": lambda pixels: math.log1p(pixels.std()),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Scorers `red` and `contrast` in place of the reward models; the list gets the number of images of every call.

    Embeddings are the pixels themselves.
    """
    made: list[int] = []

    def score_images(
        names: Sequence[str], images: Sequence[Image.Image], prompts: Sequence[str]
    ) -> dict[str, np.ndarray]:
        made.append(len(images))
        arrays = [np.asarray(image, np.float32) / 255 for image in images]
        found = {name: np.array([MEASURES[name](a) for a in arrays], np.float32) for name in names if name in MEASURES}
        if diversity.DIVERSITY in names:
            found[diversity.DIVERSITY] = np.stack([a.ravel() for a in arrays])
        return found

    def identities(names: Sequence[str], mirror: str, device: str) -> dict[str, dict[str, Any]]:
        return {
            name: {"scorer": name, "column": f"{name}_tiny", "version": 1, "weights": f"weights of {name}"}
            for name in names
        }

    monkeypatch.setattr(stage, "scorer_identities", identities)
    monkeypatch.setattr(scores, "resident_scorers", lambda wanted, mirror, device: list(wanted))
    monkeypatch.setattr(scores, "score_images", score_images)
    monkeypatch.setattr(scores, "embedding_scorer", lambda names: "red" if "red" in names else None)
    monkeypatch.setattr(scores, "embedder", lambda scorer: diversity.DIVERSITY)
    return made
