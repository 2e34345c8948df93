"""The five scorers' checkpoints with random weights, at full size or reduced, and what a forward pass costs."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline_lib.scoring.blip import Blip, VisionShape
from tests.pipeline_lib.scoring.conftest import head_state, write_bert_tokenizer, write_clip_tokenizer

IMAGE = 224
PROMPT_TOKENS = 77
MED_TOKENS = 35
HEAD = (1024, 128, 64, 16)


@dataclass(frozen=True)
class Transformer:
    """Width, layers, tokens, and the width of attention heads; feed-forward layers are four times as wide."""

    width: int
    layers: int
    tokens: int
    head: int

    def flops(self) -> float:
        """Of one forward pass of the blocks, two per multiplication: projections, feed-forward, attention."""
        per_layer = 24 * self.tokens * self.width**2 + 4 * self.tokens**2 * self.width
        return float(self.layers * per_layer)


@dataclass(frozen=True)
class Vision(Transformer):
    patch: int

    def flops(self) -> float:
        return super().flops() + 2 * (self.tokens - 1) * 3 * self.patch**2 * self.width


@dataclass(frozen=True)
class CrossAttending(Transformer):
    """BERT with cross-attention to `context` tokens of width `context_width` in every layer."""

    context: int
    context_width: int

    def flops(self) -> float:
        queries = 4 * self.tokens * self.width**2
        keys = 4 * self.context * self.context_width * self.width
        attention = 4 * self.tokens * self.context * self.width
        return super().flops() + self.layers * float(queries + keys + attention)


@dataclass(frozen=True)
class Shapes:
    """The towers behind the five scorers: ViT-L/14 of CLIP and Aesthetic, ViT-H/14 of PickScore and HPSv2, BLIP."""

    large: Vision
    large_text: Transformer
    huge: Vision
    huge_text: Transformer
    blip: Vision
    bert: CrossAttending
    embed: int
    huge_embed: int

    def flops(self) -> dict[str, float]:
        """Forward FLOPs by tower, as the scorers use them: per image, per prompt, per pair (`imagereward_bert`)."""
        return {
            "clip_and_aesthetic_image": self.large.flops(),
            "clip_text": self.large_text.flops(),
            "pickscore_image": self.huge.flops(),
            "pickscore_text": self.huge_text.flops(),
            "hpsv2_image": self.huge.flops(),
            "hpsv2_text": self.huge_text.flops(),
            "imagereward_image": self.blip.flops(),
            "imagereward_bert": self.bert.flops(),
        }


def shapes(narrower: int = 1, shallower: int = 1) -> Shapes:
    """The published architectures, with widths and depths divided. Images and token counts stay as they are."""

    def vision(width: int, layers: int, patch: int, head: int) -> Vision:
        tokens = (IMAGE // patch) ** 2 + 1
        return Vision(width // narrower, layers // shallower, tokens, head, patch)

    def text(width: int, layers: int) -> Transformer:
        # Reduced widths need not be multiples of the published 64; the width of heads does not change the cost.
        return Transformer(width // narrower, layers // shallower, PROMPT_TOKENS, 64 if narrower == 1 else 32)

    blip = vision(1024, 24, 16, 64)
    head = 64 if narrower == 1 else 32
    bert = CrossAttending(768 // narrower, 12 // shallower, MED_TOKENS, head, blip.tokens, blip.width)
    return Shapes(
        vision(1024, 24, 14, 64),
        text(768, 12),
        vision(1280, 32, 14, 80),
        text(1024, 24),
        blip,
        bert,
        768 // narrower,
        1024 // narrower,
    )


FULL = shapes()
REDUCED = shapes(narrower=8, shallower=4)
NAMED = {"full": FULL, "reduced": REDUCED}


def write_mirror(root: Path, shape: Shapes) -> None:
    """All repositories of the five scorers with seeded random weights, in the official formats."""
    large, huge = "openai/clip-vit-large-patch14", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    _write_clip(root / large, shape.large, shape.large_text, shape.embed, "quick_gelu", 1)
    _write_clip(root / "yuvalkirstain/PickScore_v1", shape.huge, shape.huge_text, shape.huge_embed, "gelu", 2)
    for repo in (large, huge):
        folder = root / repo
        folder.mkdir(parents=True, exist_ok=True)
        side = {"height": IMAGE, "width": IMAGE}
        config = {"crop_size": side, "size": {"shortest_edge": IMAGE}, "resample": 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(config))
        write_clip_tokenizer(folder)
    _write_hps(root / "xswu/HPSv2", shape)
    head = root / "christophschuhmann/improved-aesthetic-predictor/sac+logos+ava1-l14-linearMSE.pth"
    head.parent.mkdir(parents=True)
    torch.save(head_state(shape.embed, 4), head)
    _write_image_reward(root / "THUDM/ImageReward", shape)
    write_bert_tokenizer(root / "google-bert/bert-base-uncased")


def _write_clip(folder: Path, vision: Vision, text: Transformer, embed: int, activation: str, seed: int) -> None:
    from transformers import CLIPConfig, CLIPModel

    def config(shape: Transformer) -> dict[str, object]:
        return {
            "hidden_size": shape.width,
            "intermediate_size": 4 * shape.width,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.width // shape.head,
            "hidden_act": activation,
            "projection_dim": embed,
        }

    tokens = {"vocab_size": 514, "max_position_embeddings": PROMPT_TOKENS, "bos_token_id": 512, "eos_token_id": 513}
    torch.manual_seed(seed)
    model = CLIPModel(
        CLIPConfig(
            vision_config={**config(vision), "image_size": IMAGE, "patch_size": vision.patch},
            text_config={**config(text), **tokens, "pad_token_id": 513},
            projection_dim=embed,
        )
    )
    model.save_pretrained(folder)


def _write_hps(folder: Path, shape: Shapes) -> None:
    import open_clip

    vision, text = shape.huge, shape.huge_text
    config = {
        "embed_dim": shape.huge_embed,
        "vision_cfg": {
            "image_size": IMAGE,
            "layers": vision.layers,
            "width": vision.width,
            "head_width": vision.head,
            "patch_size": vision.patch,
        },
        "text_cfg": {
            "context_length": PROMPT_TOKENS,
            "vocab_size": 514,
            "width": text.width,
            "heads": text.width // text.head,
            "layers": text.layers,
        },
    }
    folder.mkdir(parents=True)
    torch.manual_seed(3)
    model = open_clip.CLIP(**config, quick_gelu=False)
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state}, folder / "HPS_v2.1_compressed.pt")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    (folder / "bpe_simple_vocab.txt.gz").write_bytes(gzip.compress(b"#version: 0.2", mtime=0))


def _write_image_reward(folder: Path, shape: Shapes) -> None:
    vision, bert = shape.blip, shape.bert
    med = {
        "hidden_act": "gelu",
        "hidden_size": bert.width,
        "intermediate_size": 4 * bert.width,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "num_attention_heads": bert.width // bert.head,
        "num_hidden_layers": bert.layers,
        "encoder_width": bert.width,
        "add_cross_attention": True,
        "vocab_size": 60,
    }
    torch.manual_seed(5)
    blip = Blip(VisionShape(vision.width, vision.patch, vision.tokens, vision.layers, 4 * vision.width), med)
    for name, tensor in blip.named_parameters():
        if tensor.ndim == 2 and "norm" not in name.lower():
            torch.nn.init.normal_(tensor, std=tensor.shape[1] ** -0.5)
    state = {f"blip.{name}": tensor for name, tensor in blip.state_dict().items()}
    state |= {f"mlp.{name}": tensor for name, tensor in head_state(bert.width, 6).items()}
    folder.mkdir(parents=True)
    torch.save(state, folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(med))
