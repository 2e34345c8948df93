"""CLIP score and aesthetic predictor on OpenAI's ViT-L/14: the clip package, through ImageReward.load_score.

Patched: clip's table of downloads, which holds the SHA-256 of OpenAI's file, holds that of ours. The checkpoint is
written twice, as OpenAI publishes it and as the hub's CLIPModel.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from unittest import mock

import clip
import ImageReward
import numpy as np
import torch
from clip.model import CLIP
from ImageReward.models.AestheticScore import MLP
from layouts import CLIP_L14, clip_config, hub_names, preprocessor_config
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from vocabulary import write_clip
from weights import fill, point_together, publish

HEAD = "christophschuhmann/improved-aesthetic-predictor/sac+logos+ava1-l14-linearMSE.pth"


def write(model: str, mirror: Path) -> None:
    """`originals/` is the download folder of ImageReward.load_score."""
    originals, hub = mirror / "originals", publish(mirror, "openai/clip-vit-large-patch14")
    originals.mkdir()
    with torch.device("meta"):
        shapes = CLIP(768, 224, 24, 1024, 14, 77, 49408, 768, 12, 12).state_dict()
    state = fill(shapes, seed=14)
    point_together(
        (state["visual.ln_post.bias"], state["visual.proj"]), (state["ln_final.bias"], state["text_projection"])
    )
    torch.jit.script(modules(state)).save(str(originals / "ViT-L-14.pt"))
    save_file(hub_names(state), hub / "model.safetensors", metadata={"format": "pt"})
    (hub / "config.json").write_text(json.dumps(clip_config(**CLIP_L14)))
    (hub / "preprocessor_config.json").write_text(json.dumps(preprocessor_config()))
    write_clip(hub)
    head = mirror / HEAD
    head.parent.mkdir(parents=True)
    torch.save(fill(MLP(768).state_dict(), seed=4), head)
    (originals / "sac%2Blogos%2Bava1-l14-linearMSE.pth").symlink_to(head)


def modules(state: dict[str, torch.Tensor]) -> nn.Module:
    """A tree of modules with this state dict, for a TorchScript archive, which is what OpenAI's file is."""
    root = nn.Module()
    for name, tensor in state.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
    return root


def score(model: str, mirror: Path, images: list[str], asked: list[dict[str, str]]) -> dict[str, Any]:
    originals, result = mirror / "originals", {}
    with (originals / "ViT-L-14.pt").open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    with mock.patch.dict(clip.clip._MODELS, {"ViT-L/14": f"https://localhost/{checksum}/ViT-L-14.pt"}):
        for name, published in (("clip", "CLIP"), ("aesthetic", "Aesthetic")):
            original = ImageReward.load_score(published, device="cpu", download_root=str(originals))
            with torch.no_grad():
                scores = [original.score(case["prompt"], case["image"]) for case in asked]
            pixels = np.stack([original.preprocess(Image.open(path)).numpy() for path in images])
            result |= {f"{name}/scores": np.array(scores), f"{name}/pixels": pixels}
    return result
