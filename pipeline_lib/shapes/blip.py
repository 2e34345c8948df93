"""ImageReward's network at a small size, under the official names of its tensors.

A timm vision transformer, a BERT text encoder with cross-attention in every layer (BLIP's `med`), and a linear head.
Only used to train the built-in world's weights; the scorer has its own, independent implementation.
"""

from __future__ import annotations

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from pipeline_lib.shapes.tokenizers import BERT_CONTEXT, bert_vocabulary

VISION_WIDTH = 64  # one head of 64, the head width of every BLIP
TEXT_WIDTH = 64
TEXT_HEADS = 2
LAYERS = 3

MED_CONFIG: dict[str, object] = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": TEXT_WIDTH,
    "initializer_range": 0.02,
    "intermediate_size": 4 * TEXT_WIDTH,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": BERT_CONTEXT,
    "model_type": "bert",
    "num_attention_heads": TEXT_HEADS,
    "num_hidden_layers": LAYERS,
    "pad_token_id": 0,
    "add_type_embeddings": False,
    "vocab_size": len(bert_vocabulary()) + 2,  # [DEC] and [ENC], as BLIP adds them
    "encoder_width": VISION_WIDTH,
    "add_cross_attention": True,
}


class Attention(nn.Module):
    """BERT's attention block: `self.{query,key,value}` and `output.{dense,LayerNorm}`."""

    def __init__(self, context_width: int) -> None:
        super().__init__()
        self.self = nn.ModuleDict(
            {
                "query": nn.Linear(TEXT_WIDTH, TEXT_WIDTH),
                "key": nn.Linear(context_width, TEXT_WIDTH),
                "value": nn.Linear(context_width, TEXT_WIDTH),
            }
        )
        self.output = nn.ModuleDict(
            {"dense": nn.Linear(TEXT_WIDTH, TEXT_WIDTH), "LayerNorm": nn.LayerNorm(TEXT_WIDTH, eps=1e-12)}
        )

    def forward(self, hidden: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        def heads(name: str, source: Tensor) -> Tensor:
            return self.self[name](source).unflatten(-1, (TEXT_HEADS, -1)).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            heads("query", hidden), heads("key", context), heads("value", context), attn_mask=mask
        )
        return self.output["LayerNorm"](self.output["dense"](mixed.transpose(1, 2).flatten(2)) + hidden)


class Layer(nn.Module):
    """Self-attention, cross-attention to the image, feed-forward; post-norm, as BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(TEXT_WIDTH)
        self.crossattention = Attention(VISION_WIDTH)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(TEXT_WIDTH, 4 * TEXT_WIDTH)})
        self.output = nn.ModuleDict(
            {"dense": nn.Linear(4 * TEXT_WIDTH, TEXT_WIDTH), "LayerNorm": nn.LayerNorm(TEXT_WIDTH, eps=1e-12)}
        )

    def forward(self, hidden: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        hidden = self.attention(hidden, hidden, mask)
        hidden = self.crossattention(hidden, image, None)
        inner = functional.gelu(self.intermediate["dense"](hidden))
        return self.output["LayerNorm"](self.output["dense"](inner) + hidden)


class Embeddings(nn.Module):
    """Words and positions, without BERT's segment embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(len(bert_vocabulary()) + 2, TEXT_WIDTH)
        self.position_embeddings = nn.Embedding(BERT_CONTEXT, TEXT_WIDTH)
        self.LayerNorm = nn.LayerNorm(TEXT_WIDTH, eps=1e-12)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.LayerNorm(self.word_embeddings(tokens) + self.position_embeddings.weight[: tokens.shape[1]])


class Encoder(nn.Module):
    """The stack of layers, as `layer.N`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, hidden: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        for layer in self.layer:
            hidden = layer(hidden, mask, image)
        return hidden


class TextEncoder(nn.Module):
    """BLIP's BERT in multimodal mode."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = Encoder()

    def forward(self, tokens: Tensor, attended: Tensor, image: Tensor) -> Tensor:
        return self.encoder(self.embeddings(tokens), attended[:, None, None].bool(), image)


class Blip(nn.Module):
    """The two encoders and BLIP's (here unused) contrastive projections."""

    def __init__(self) -> None:
        super().__init__()
        self.visual_encoder = VisionTransformer(
            img_size=32, patch_size=4, embed_dim=VISION_WIDTH, depth=LAYERS, num_heads=1, num_classes=0, global_pool=""
        )
        self.text_encoder = TextEncoder()
        self.vision_proj = nn.Linear(VISION_WIDTH, 32)
        self.text_proj = nn.Linear(TEXT_WIDTH, 32)

    def forward(self, images: Tensor, tokens: Tensor, attended: Tensor) -> Tensor:
        return self.text_encoder(tokens, attended, self.visual_encoder.forward_features(images))


class Head(nn.Module):
    """The linear layers, as `layers.N`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = linear_head(width)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.layers(hidden).squeeze(-1)


class TinyImageReward(nn.Module):
    """ImageReward: `blip.*` and the head `mlp.layers.*`."""

    def __init__(self) -> None:
        super().__init__()
        self.blip = Blip()
        self.mlp = Head(TEXT_WIDTH)

    def forward(self, images: Tensor, tokens: Tensor, attended: Tensor) -> Tensor:
        """Raw reward (n,) of normalised images (n, 3, 32, 32) for tokens (n, L)."""
        return self.mlp(self.blip(images, tokens, attended)[:, 0])


def linear_head(width: int) -> nn.Sequential:
    """The five linear layers (with dropout between, no activation) of ImageReward and the aesthetic predictor."""
    sizes = (width, 128, 64, 32, 16, 1)
    return nn.Sequential(
        nn.Linear(sizes[0], sizes[1]),
        nn.Dropout(0.2),
        nn.Linear(sizes[1], sizes[2]),
        nn.Dropout(0.2),
        nn.Linear(sizes[2], sizes[3]),
        nn.Dropout(0.1),
        nn.Linear(sizes[3], sizes[4]),
        nn.Linear(sizes[4], sizes[5]),
    )
