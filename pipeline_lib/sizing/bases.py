"""Sizes of the presets' base models, as their architectures imply them.

Parameters: counted on the official configurations (tests/pipeline_lib/sizing checks SD 1.5 and SDXL). Widths: the text
encoders' (CLIP ViT-L/14 768, OpenCLIP ViT-H/14 1024, OpenCLIP bigG/14 1280).
"""

from __future__ import annotations

from dataclasses import dataclass

TOKENS = 77
LATENT_CHANNELS = 4
REDUCTION = 8
"""Pixels of an image's side per pixel of its latent's."""
FP32, FP16 = 4, 2


@dataclass(frozen=True, kw_only=True)
class Base:
    """Parameters of the parts; `text_width` of a token's embedding, `pooled_width` of the pooled text (0: none)."""

    unet: int
    text: int
    vae: int
    text_width: int
    pooled_width: int = 0

    @property
    def download_bytes(self) -> int:
        """Of the fp32 weights in safetensors, which the pipeline reads."""
        return FP32 * (self.unet + self.text + self.vae)


_VAE = 83_653_863
BASES = {
    "sd15": Base(unet=859_520_964, text=123_060_480, vae=_VAE, text_width=768),
    "sd21": Base(unet=865_910_724, text=340_387_840, vae=_VAE, text_width=1024),
    "sdxl": Base(unet=2_567_463_684, text=123_060_480 + 694_659_840, vae=2 * _VAE, text_width=2048, pooled_width=1280),
}
"""By preset. SDXL's VAE is counted twice: the replacement, and the pipeline's own beside it."""
