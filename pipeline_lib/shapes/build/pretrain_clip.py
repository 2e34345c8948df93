"""The tiny CLIP: trained to match web pictures with their captions, contrastively."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from pipeline_lib.shapes.build.optimise import Log, minimise, to_tensor
from pipeline_lib.shapes.grammar import parse, split_captions
from pipeline_lib.shapes.hub_files import CLIP_MEAN, CLIP_STD
from pipeline_lib.shapes.renderer import ideal
from pipeline_lib.shapes.tokenizers import CONTEXT, END, START, clip_vocabulary
from pipeline_lib.shapes.web import draw

BATCH = 96
RATE = 1e-3
PROJECTION = 64
WIDTH = 96


def clip_config(activation: str) -> CLIPConfig:
    """The architecture shared by the tiny CLIP ("quick_gelu", as OpenAI's) and PickScore ("gelu", as LAION's)."""
    vocabulary = clip_vocabulary()
    tower = {"hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_attention_heads": 4, "hidden_act": activation}
    text = {
        **tower,
        "num_hidden_layers": 2,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": vocabulary[START],
        "eos_token_id": vocabulary[END],
        "pad_token_id": vocabulary[END],
        "projection_dim": PROJECTION,
    }
    vision = {**tower, "num_hidden_layers": 3, "image_size": 32, "patch_size": 4, "projection_dim": PROJECTION}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION)


def normalised(images: Tensor) -> Tensor:
    """Images (n, 3, 32, 32) in 0..1 with CLIP's mean and standard deviation removed."""
    mean, std = torch.tensor(CLIP_MEAN).view(1, 3, 1, 1), torch.tensor(CLIP_STD).view(1, 3, 1, 1)
    return (images - mean) / std


def token_table(tokenizer: CLIPTokenizer, captions: tuple[str, ...]) -> dict[str, Tensor]:
    """Caption -> token ids (CONTEXT,)."""
    rows = tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    return dict(zip(captions, rows, strict=True))


def embeddings(model: CLIPModel, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Unit-length embeddings (n, 64) of normalised images and of tokens."""
    vision = model.visual_projection(model.vision_model(pixel_values=images).pooler_output)
    text = model.text_projection(model.text_model(input_ids=tokens).pooler_output)
    return functional.normalize(vision, dim=-1), functional.normalize(text, dim=-1)


def train_clip(tokenizer: CLIPTokenizer, steps: int, seed: int) -> tuple[CLIPModel, Log]:
    """Train from nothing on the train captions."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    captions = split_captions("train")
    tokens = token_table(tokenizer, captions)
    model = CLIPModel(clip_config("quick_gelu"))

    def loss_at(step: int) -> Tensor:
        chosen = [str(caption) for caption in rng.choice(captions, BATCH, replace=False)]
        images = normalised(to_tensor(draw(chosen, rng)))
        vision, text = embeddings(model, images, torch.stack([tokens[caption] for caption in chosen]))
        logits = model.logit_scale.exp().clamp(max=100) * vision @ text.T
        target = torch.arange(BATCH)
        return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2

    log = minimise(model.parameters(), loss_at, steps, RATE, "clip")
    return model.eval(), log


@torch.no_grad()
def retrieval_accuracy(model: CLIPModel, tokenizer: CLIPTokenizer) -> float:
    """How often the right caption among the 128 validation captions is ranked first for an ideal rendering."""

    captions = split_captions("validation")
    tokens = token_table(tokenizer, captions)
    images = normalised(to_tensor(ideal([parse(caption) for caption in captions])))
    vision, text = embeddings(model, images, torch.stack([tokens[caption] for caption in captions]))
    right = (vision @ text.T).argmax(dim=1) == torch.arange(len(captions))
    return right.float().mean().item()
