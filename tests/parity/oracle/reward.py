"""ImageReward v1.0: the image-reward package. Nothing is patched; its files lie where it would have put them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ImageReward
import numpy as np
import torch
from ImageReward.ImageReward import ImageReward as Model
from PIL import Image
from vocabulary import write_bert
from weights import fill, publish

MED_CONFIG = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "add_type_embeddings": False,
    "vocab_size": 30524,
    "encoder_width": 768,
    "add_cross_attention": True,
}


def write(model: str, mirror: Path) -> None:
    bert = publish(mirror, "google-bert/bert-base-uncased", "bert-base-uncased")
    write_bert(bert)
    (bert / "config.json").write_text(json.dumps({"model_type": "bert"}))
    folder = publish(mirror, "THUDM/ImageReward")
    config = folder / "med_config.json"
    config.write_text(json.dumps(MED_CONFIG))
    torch.save(fill(Model(med_config=str(config)).state_dict(), seed=1), folder / "ImageReward.pt")


def score(model: str, mirror: Path, images: list[str], asked: list[dict[str, str]]) -> dict[str, Any]:
    original = ImageReward.load("ImageReward-v1.0", device="cpu", download_root=str(mirror / "THUDM/ImageReward"))
    with torch.no_grad():
        scores = [original.score(case["prompt"], case["image"]) for case in asked]
    pixels = np.stack([original.preprocess(Image.open(path)).numpy() for path in images])
    return {f"{model}/scores": np.array(scores), f"{model}/pixels": pixels}
