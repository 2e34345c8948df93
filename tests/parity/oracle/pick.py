"""PickScore v1: what its model card documents, with the transformers of its time. Nothing is patched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from layouts import CLIP_H14, clip_config, position_ids, preprocessor_config
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModel, AutoProcessor, CLIPConfig, CLIPModel
from vocabulary import write_clip
from weights import fill, point_together, publish

MODEL, PROCESSOR = "yuvalkirstain/PickScore_v1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


def write(model: str, mirror: Path) -> None:
    config = clip_config(**CLIP_H14)
    with torch.device("meta"):
        shapes = CLIPModel(CLIPConfig(**config)).state_dict()
    state = fill(shapes, seed=3)
    point_together(
        (state["vision_model.post_layernorm.bias"], state["visual_projection.weight"].T),
        (state["text_model.final_layer_norm.bias"], state["text_projection.weight"].T),
    )
    folder, processor = publish(mirror, MODEL), publish(mirror, PROCESSOR)
    save_file({**state, **position_ids()}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (processor / "config.json").write_text(json.dumps(config))
    (processor / "preprocessor_config.json").write_text(json.dumps(preprocessor_config()))
    write_clip(processor)


@torch.no_grad()
def score(model: str, mirror: Path, images: list[str], asked: list[dict[str, str]]) -> dict[str, Any]:
    """exp(logit_scale) times the cosine; prompts padded and cut to 77 tokens."""
    processor, original = AutoProcessor.from_pretrained(PROCESSOR), AutoModel.from_pretrained(MODEL).eval()
    scores = []
    for case in asked:
        image = processor(images=Image.open(case["image"]), return_tensors="pt")
        text = processor(text=case["prompt"], padding=True, truncation=True, max_length=77, return_tensors="pt")
        seen, read = original.get_image_features(**image), original.get_text_features(**text)
        cosine = (seen / seen.norm(dim=-1, keepdim=True)) @ (read / read.norm(dim=-1, keepdim=True)).T
        scores.append((original.logit_scale.exp() * cosine).item())
    pixels = processor(images=[Image.open(path) for path in images], return_tensors="np")["pixel_values"]
    return {f"{model}/scores": np.array(scores), f"{model}/pixels": pixels}
