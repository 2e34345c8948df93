"""Random weights for the originals' own architectures, and the hub cache in which the originals look for files."""

from __future__ import annotations

import math
from pathlib import Path

import torch

COMMIT = "0" * 40
SHIFT = 20.0
"""Of embeddings whose random part has a length of about 35."""


def fill(shapes: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Weights for a state dict whose tensors may be on the meta device; every value is exact in fp16.

    Published files of HPSv2 hold fp16, and clip rounds what it loads to fp16, so other values would not reach both
    sides. The scale keeps every layer's activations near one, so that scores depend on the image.
    """
    generator = torch.Generator().manual_seed(seed)

    def values(name: str, like: torch.Tensor) -> torch.Tensor:
        if not like.is_floating_point():
            return torch.arange(like.numel()).reshape(like.shape)  # position_ids
        if name.endswith("logit_scale"):
            return torch.tensor(math.log(100.0)).half().float()
        noise = torch.randn(like.shape, generator=generator)
        if like.ndim == 1:
            is_scale = name.endswith("weight")  # of a LayerNorm
            return (noise * 0.1 + float(is_scale)).half().float()
        if "embed" in name and "patch" not in name:
            return (noise * 0.5).half().float()
        return (noise * math.prod(like.shape[1:]) ** -0.5).half().float()

    return {name: values(name, like) for name, like in shapes.items()}


def point_together(*towers: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Make the cosines of a CLIP like those of trained ones, 0.2 to 0.4, where random towers give some near zero.

    Args:
        towers: the last LayerNorm's bias (width,), changed in place, and the projection (width, embedding) after it,
            for images and for texts. The bias moves every embedding along the first axis.
    """
    for bias, projection in towers:
        axis = projection[:, 0]
        bias.copy_((bias + SHIFT * axis / axis.norm()).half())


def publish(mirror: Path, repo: str, name: str | None = None) -> Path:
    """The folder of `repo` in the mirror, also the snapshot that huggingface_hub finds under `name` when offline."""
    folder = mirror / repo
    folder.mkdir(parents=True, exist_ok=True)
    cached = mirror / "cache/hub" / f"models--{(name or repo).replace('/', '--')}"
    for part in ("refs", "snapshots"):
        (cached / part).mkdir(parents=True, exist_ok=True)
    (cached / "refs/main").write_text(COMMIT)
    link = cached / "snapshots" / COMMIT
    if not link.is_symlink():
        link.symlink_to(folder)
    return folder
