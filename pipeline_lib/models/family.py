"""What a base-model family has to say about itself, and the noise schedule all families share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a flow that looks at a base loads no torch
    import torch
    from torch import Tensor

ATTENTION_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class Family:
    """A family of latent-diffusion models with a UNet2DConditionModel.

    Attributes:
        name: the family's name in `FAMILIES`.
        pipeline: class name of the diffusers pipeline, as in the repository's `model_index.json`.
        text_parts: the pipeline's components that turn prompts into embeddings.
        added_embeddings: what a UNet's `addition_embed_type` may be: what `conditioning` feeds.
        absent: components that are replaced by a constant when loading (a safety checker is never needed).
        encode_prompts: (pipeline, prompts) -> (embeddings [n, tokens, width], pooled [n, width] or None), exactly what
            the stock pipeline gives its UNet for these prompts, and for "" its unconditional embedding.
        conditioning: (embeddings, pooled, resolution) -> keyword arguments of the UNet beside sample and timestep.
        lora_targets: names of the linear layers that LoRA adapts.
        old_scale: a VAE without `scaling_factor` has that of SD 1 and 2, from before the field.
    """

    name: str
    pipeline: str
    text_parts: tuple[str, ...]
    added_embeddings: tuple[str | None, ...]
    absent: Mapping[str, Any]
    encode_prompts: Callable[[Any, list[str]], tuple[Tensor, Tensor | None]]
    conditioning: Callable[[Tensor, Tensor | None, int], dict[str, Any]]
    lora_targets: tuple[str, ...] = ATTENTION_PROJECTIONS
    old_scale: bool = False


@dataclass(frozen=True)
class NoiseSchedule:
    """The forward process x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps.

    Attributes:
        alphas_cumprod: abar, fp32 [timesteps].
        prediction_type: "epsilon" (target eps) or "v_prediction" (target sqrt(abar) eps - sqrt(1 - abar) x_0).
    """

    alphas_cumprod: Tensor
    prediction_type: str

    @property
    def timesteps(self) -> int:
        """Number of timesteps T; t is drawn from 0..T-1."""
        return len(self.alphas_cumprod)

    def to(self, device: torch.device) -> NoiseSchedule:
        """The same schedule on another device."""
        return NoiseSchedule(self.alphas_cumprod.to(device), self.prediction_type)

    def noisy_and_target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The UNet's input x_t and training target, both like `clean` [n, C, H, W]; `timesteps` is int64 [n]."""
        signal = self.alphas_cumprod[timesteps].sqrt()[:, None, None, None]
        spread = (1 - self.alphas_cumprod[timesteps]).sqrt()[:, None, None, None]
        noisy = signal * clean + spread * noise
        return noisy, noise if self.prediction_type == "epsilon" else signal * noise - spread * clean
