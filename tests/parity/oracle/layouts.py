"""CLIPModel repositories as the hub holds them: configurations, and the names of the tensors."""

from __future__ import annotations

from typing import Any

import torch

CLIP_L14 = {"embed": 768, "text": (768, 12, 12), "vision": (1024, 24, 16), "activation": "quick_gelu"}
CLIP_H14 = {"embed": 1024, "text": (1024, 24, 16), "vision": (1280, 32, 16), "activation": "gelu"}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
RENAMED = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.": "text_model.embeddings.token_embedding.",
    "ln_final.": "text_model.final_layer_norm.",
    "logit_scale": "logit_scale",
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}
INNER = {
    ".attn.out_proj.": ".self_attn.out_proj.",
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}


def clip_config(
    embed: int, text: tuple[int, int, int], vision: tuple[int, int, int], activation: str
) -> dict[str, Any]:
    """config.json of a CLIPModel; (width, layers, heads) of the towers. Token ids are those of the hub's old files."""

    def tower(shape: tuple[int, int, int]) -> dict[str, Any]:
        width, layers, heads = shape
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "hidden_act": activation,
            "projection_dim": embed,
            "layer_norm_eps": 1e-05,
        }

    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": embed,
        "text_config": {**tower(text), **ids, "max_position_embeddings": 77, "vocab_size": 49408},
        "vision_config": {**tower(vision), "image_size": 224, "patch_size": 14},
    }


def preprocessor_config() -> dict[str, Any]:
    return {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 3,
        "size": 224,
    }


def position_ids() -> dict[str, torch.Tensor]:
    """Buffers that the hub's files hold and newer libraries do not read."""
    return {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(257)[None],
    }


def hub_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """OpenAI's state dict under the names of CLIPModel."""
    named = {
        "visual_projection.weight": state["visual.proj"].T.contiguous(),
        "text_projection.weight": state["text_projection"].T.contiguous(),
        **position_ids(),
    }
    for name, tensor in state.items():
        if name in ("visual.proj", "text_projection"):
            continue
        prefix = next(prefix for prefix in RENAMED if name.startswith(prefix))
        new = RENAMED[prefix] + name[len(prefix) :]
        for old, inner in INNER.items():
            new = new.replace(old, inner)
        if ".attn.in_proj_" in new:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                named[new.replace(".attn.in_proj_", f".self_attn.{part}_proj.")] = piece.clone()
        else:
            named[new] = tensor
    return named
