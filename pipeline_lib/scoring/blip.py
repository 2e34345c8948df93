"""BLIP's image-grounded text encoder under the tensor names of the official checkpoints, for inference.

A vision transformer (pre-norm, GELU, LayerNorm eps 1e-6, heads of width 64) and a BERT (post-norm) with
cross-attention to the image in every layer. Reference: salesforce/BLIP models/vit.py and models/med.py, "multimodal".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD_WIDTH = 64


@dataclass(frozen=True)
class VisionShape:
    """Of the vision transformer; `positions` counts the class token."""

    width: int
    patch: int
    positions: int
    layers: int
    hidden: int

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""
        return round((self.positions - 1) ** 0.5) * self.patch


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Multi-head attention of (n, tokens, width) tensors."""
    q, k, v = (tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (query, key, value))
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class VisionAttention(nn.Module):
    """Self-attention with one matrix for query, key and value."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        return self.proj(_attend(query, key, value, self.heads, None))


class VisionMlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(tokens)))


class VisionBlock(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=1e-6)
        self.attn = VisionAttention(shape.width)
        self.norm2 = nn.LayerNorm(shape.width, eps=1e-6)
        self.mlp = VisionMlp(shape.width, shape.hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class VisionTransformer(nn.Module):
    """Pixels (n, 3, size, size) -> tokens (n, positions, width), normalised; the first is the class token."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.positions, shape.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, shape.width, shape.patch, shape.patch)})
        self.blocks = nn.ModuleList(VisionBlock(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


class TextAttention(nn.Module):
    """BERT's attention with residual and LayerNorm after; `context_width` is that of the keys' source."""

    def __init__(self, med: dict[str, Any], context_width: int) -> None:
        super().__init__()
        width = med["hidden_size"]
        self.heads = med["num_attention_heads"]
        self.self = nn.ModuleDict(
            {
                "query": nn.Linear(width, width),
                "key": nn.Linear(context_width, width),
                "value": nn.Linear(context_width, width),
            }
        )
        self.output = _add_and_norm(width, med)

    def forward(self, hidden: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        mixed = _attend(
            self.self["query"](hidden), self.self["key"](context), self.self["value"](context), self.heads, mask
        )
        return self.output["LayerNorm"](self.output["dense"](mixed) + hidden)


class TextLayer(nn.Module):
    """Self-attention, cross-attention to the image, feed-forward."""

    def __init__(self, med: dict[str, Any], vision_width: int) -> None:
        super().__init__()
        self.attention = TextAttention(med, med["hidden_size"])
        self.crossattention = TextAttention(med, vision_width)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(med["hidden_size"], med["intermediate_size"])})
        self.output = _add_and_norm(med["intermediate_size"], med)

    def forward(self, hidden: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        hidden = self.attention(hidden, hidden, mask)
        hidden = self.crossattention(hidden, image, None)
        inner = functional.gelu(self.intermediate["dense"](hidden))
        return self.output["LayerNorm"](self.output["dense"](inner) + hidden)


class TextLayers(nn.Module):
    def __init__(self, med: dict[str, Any], vision_width: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(TextLayer(med, vision_width) for _ in range(med["num_hidden_layers"]))

    def forward(self, hidden: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        for layer in self.layer:
            hidden = layer(hidden, mask, image)
        return hidden


def _add_and_norm(inputs: int, med: dict[str, Any]) -> nn.ModuleDict:
    width = med["hidden_size"]
    return nn.ModuleDict(
        {"dense": nn.Linear(inputs, width), "LayerNorm": nn.LayerNorm(width, eps=med["layer_norm_eps"])}
    )


class TextEncoder(nn.Module):
    """Tokens (n, L) and image tokens (n, positions, vision width) -> hidden states (n, L, hidden_size).

    Args:
        med: the content of med_config.json. Its `encoder_width` is that of the base model; BLIP replaces it by the
            vision transformer's.
    """

    def __init__(self, med: dict[str, Any], vision_width: int) -> None:
        super().__init__()
        width = med["hidden_size"]
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(med["vocab_size"], width),
                "position_embeddings": nn.Embedding(med["max_position_embeddings"], width),
                "LayerNorm": nn.LayerNorm(width, eps=med["layer_norm_eps"]),
            }
        )
        self.encoder = TextLayers(med, vision_width)

    def forward(self, tokens: Tensor, attended: Tensor, image: Tensor) -> Tensor:
        """`attended` (n, L) is True for tokens that are not padding."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        embedded = self.embeddings["word_embeddings"](tokens) + self.embeddings["position_embeddings"](positions)
        hidden = self.embeddings["LayerNorm"](embedded)
        return self.encoder(hidden, attended[:, None, None, :], image)


class Blip(nn.Module):
    """The two encoders, as `visual_encoder` and `text_encoder`."""

    def __init__(self, vision: VisionShape, med: dict[str, Any]) -> None:
        super().__init__()
        self.visual_encoder = VisionTransformer(vision)
        self.text_encoder = TextEncoder(med, vision.width)
