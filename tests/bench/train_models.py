"""Base models for the benchmark of training: the real architectures, and small ones that divide the work alike.

FLOPs of the real ones are counted on torch's meta device, which allocates and computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TOKENS = 77


@dataclass(frozen=True)
class Architecture:
    """Sizes of one base model.

    Attributes:
        resolution: image side in pixels; latents are an eighth of it.
        unet: settings of the UNet beside those both sizes share.
        vae: channels of the VAE's four levels.
        text: (width, layers, heads) of each text encoder; the last one's width is the pooled text's too.
    """

    resolution: int
    unet: dict[str, Any]
    vae: tuple[int, ...]
    text: tuple[tuple[int, int, int], ...]
    groups: int = 32
    down: tuple[str, ...] = field(default=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))

    @property
    def context(self) -> int:
        """Width of the text embeddings."""
        return sum(width for width, _, _ in self.text)


def _sd(
    resolution: int,
    channels: tuple[int, ...],
    heads: int,
    vae: tuple[int, ...],
    text: tuple[int, int, int],
    groups: int,
) -> Any:
    unet = {"block_out_channels": channels, "attention_head_dim": heads}
    return Architecture(resolution, unet, vae, (text,), groups)


def _sdxl(
    resolution: int,
    channels: tuple[int, ...],
    heads: tuple[int, ...],
    vae: tuple[int, ...],
    text: tuple[tuple[int, int, int], ...],
    groups: int,
) -> Any:
    pooled, time_width = text[-1][0], channels[0] * 4 // 5
    unet = {
        "block_out_channels": channels,
        "attention_head_dim": list(heads),
        "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": time_width,
        "projection_class_embeddings_input_dim": pooled + 6 * time_width,
    }
    return Architecture(resolution, unet, vae, text, groups, ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2)


REAL = {
    "sd": _sd(512, (320, 640, 1280, 1280), 8, (128, 256, 512, 512), (768, 12, 12), 32),
    "sdxl": _sdxl(1024, (320, 640, 1280), (5, 10, 20), (128, 256, 512, 512), ((768, 12, 12), (1280, 32, 20)), 32),
}
# Heads are as wide as the real ones (40 to 160 in SD, 64 in SDXL), so that attention weighs as much beside the rest.
SMALL = {
    "sd": _sd(128, (80, 160, 320, 320), 2, (32, 64, 128, 128), (40, 12, 4), 16),
    "sdxl": _sdxl(128, (80, 160, 320), (1, 2, 5), (32, 64, 128, 128), ((32, 12, 4), (56, 12, 4)), 16),
}
SIZES = {"real": REAL, "small": SMALL}


def unet(a: Architecture) -> UNet2DConditionModel:
    """A UNet with random weights."""
    return UNet2DConditionModel(
        sample_size=a.resolution // 8,
        layers_per_block=2,
        down_block_types=a.down,
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(a.down)),
        cross_attention_dim=a.context,
        norm_num_groups=a.groups,
        **a.unet,
    )


def vae(a: Architecture) -> AutoencoderKL:
    """A VAE with random weights."""
    return AutoencoderKL(
        block_out_channels=a.vae,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=a.groups,
        latent_channels=4,
        sample_size=a.resolution,
    )


def text_encoders(a: Architecture) -> list[Any]:
    """CLIP text models; the second one of SDXL has a projection."""
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    return [
        kind(
            CLIPTextConfig(
                vocab_size=54,
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                max_position_embeddings=TOKENS,
                projection_dim=width,
                bos_token_id=52,
                eos_token_id=53,
                pad_token_id=53,
            )
        )
        for kind, (width, layers, heads) in zip(kinds, a.text, strict=False)
    ]


def added(a: Architecture, rows: int, device: str = "cpu") -> dict[str, torch.Tensor] | None:
    """SDXL's further conditioning with zeros for the pooled text."""
    if len(a.text) == 1:
        return None
    side = float(a.resolution)
    ids = torch.tensor([[side, side, 0, 0, side, side]], device=device).repeat(rows, 1)
    return {"text_embeds": torch.zeros(rows, a.text[-1][0], device=device), "time_ids": ids}


def forward_flops(a: Architecture) -> dict[str, float]:
    """FLOPs that a pair needs: its two images through the VAE's encoder and once through the UNet, its prompt once."""

    def count(run: Any) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        return float(counter.get_total_flops())

    with torch.device("meta"):
        side = a.resolution // 8
        image, latent = torch.empty(2, 3, a.resolution, a.resolution), torch.empty(2, 4, side, side)
        encoder, model, texts = vae(a), unet(a), text_encoders(a)
        context, ids = torch.empty(2, TOKENS, a.context), torch.empty(1, TOKENS, dtype=torch.long)
        step = torch.empty(2, dtype=torch.long)
        extra = added(a, 2, "meta")
        return {
            "vae": count(lambda: encoder.encode(image)),
            "text": sum(count(lambda text=text: text(ids)) for text in texts),
            "unet": count(lambda: model(latent, step, context, added_cond_kwargs=extra)),
        }


def shares(flops: dict[str, float]) -> dict[str, float]:
    """Each part's share of the whole."""
    total = sum(flops.values())
    return {name: value / total for name, value in flops.items()}


def write(family: str, folder: Path) -> None:
    """The small model of a family as a diffusers pipeline folder."""
    torch.manual_seed(0)
    a = SMALL[family]
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocab = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=TOKENS)
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
    )
    texts = text_encoders(a)
    parts = {"unet": unet(a), "vae": vae(a), "scheduler": scheduler, "tokenizer": tokenizer, "text_encoder": texts[0]}
    if family == "sd":
        absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        StableDiffusionPipeline(**parts, **absent).save_pretrained(folder)
    else:
        StableDiffusionXLPipeline(**parts, text_encoder_2=texts[1], tokenizer_2=tokenizer).save_pretrained(folder)
