"""The tiny autoencoder: 32x32 RGB to a 16x16 latent of 4 channels."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from pipeline_lib.shapes.build.optimise import Log, minimise, to_tensor
from pipeline_lib.shapes.grammar import parse, split_captions
from pipeline_lib.shapes.renderer import ideal
from pipeline_lib.shapes.web import draw

BATCH = 32
RATE = 2e-3
KL_WEIGHT = 2e-8


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def train_vae(steps: int, seed: int) -> tuple[AutoencoderKL, Log]:
    """Fit the autoencoder to web pictures and ideal ones, then set its scaling factor to 1 / std of the latents."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    captions = split_captions("train")
    vae = new_vae()

    def pictures() -> torch.Tensor:
        chosen = list(rng.choice(captions, BATCH))
        half = BATCH // 2
        clean = ideal([parse(caption) for caption in chosen[half:]])
        return to_tensor(np.concatenate([draw(chosen[:half], rng), clean])) * 2 - 1

    def loss_at(step: int) -> torch.Tensor:
        images = pictures()
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        error = functional.mse_loss(decoded, images) + 0.2 * functional.l1_loss(decoded, images)
        return error + KL_WEIGHT * posterior.kl().mean()

    log = minimise(vae.parameters(), loss_at, steps, RATE, "vae")
    with torch.no_grad():
        latents = torch.cat([vae.encode(pictures()).latent_dist.sample() for _ in range(8)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    return vae.eval(), log


@torch.no_grad()
def clean_psnr(vae: AutoencoderKL) -> float:
    """Peak signal-to-noise ratio in dB of 128 ideal renderings of held-out captions, encoded and decoded."""
    images = to_tensor(ideal([parse(caption) for caption in split_captions("validation")[:128]]))
    decoded = vae.decode(vae.encode(images * 2 - 1).latent_dist.mean).sample.clamp(-1, 1) / 2 + 0.5
    return float(-10 * torch.log10(functional.mse_loss(decoded, images)))
