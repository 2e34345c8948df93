"""The tiny aesthetic predictor: a linear head on the CLIP image embedding, fitted to ratings without prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel

from pipeline_lib.shapes.blip import Head
from pipeline_lib.shapes.build.optimise import Log, minimise, to_tensor
from pipeline_lib.shapes.build.preferences import Pool
from pipeline_lib.shapes.build.pretrain_clip import PROJECTION, normalised
from pipeline_lib.shapes.renderer import Floats
from pipeline_lib.shapes.truth import ATTRIBUTES

RATE = 1e-3
TASTE = {"sharpness": 1.0, "vividness": 1.0, "cleanness": 1.0}
"""What raters without a prompt look at; their ratings are on the scale 1..10."""


def ratings(parts: Floats, noise: float, rng: np.random.Generator) -> Floats:
    """Mean ratings (n,) on 1..10 of images with attributes (n, 7)."""
    weights = np.array([TASTE.get(name, 0.0) for name in ATTRIBUTES], dtype=np.float32)
    liking = parts @ weights / weights.sum()
    return np.clip(1 + 8 * liking + noise * rng.standard_normal(len(parts)), 1, 10).astype(np.float32)


@torch.no_grad()
def image_embeddings(clip: CLIPModel, images: np.ndarray) -> Tensor:
    """Unit-length image embeddings (n, 64) of uint8 images."""
    parts = [
        clip.visual_projection(
            clip.vision_model(pixel_values=normalised(to_tensor(part.astype(np.float32) / 255))).pooler_output
        )
        for part in np.array_split(images, max(1, len(images) // 256))
    ]
    return functional.normalize(torch.cat(parts), dim=-1)


def train_aesthetic(clip: CLIPModel, pools: Sequence[Pool], steps: int, noise: float, seed: int) -> tuple[Head, Log]:
    """Fit the head (`layers.{0,2,4,6,7}`) by mean squared error; `noise` is the standard deviation of a rating."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    known = torch.cat([image_embeddings(clip, pool.images) for pool in pools])
    wanted = torch.from_numpy(np.concatenate([ratings(pool.parts, noise, rng) for pool in pools]))
    head = Head(PROJECTION).train()

    def loss_at(step: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(0, len(known), 128))
        return functional.mse_loss(head(known[chosen]), wanted[chosen])

    log = minimise(head.parameters(), loss_at, steps, RATE, "aesthetic")
    return head.eval(), log
