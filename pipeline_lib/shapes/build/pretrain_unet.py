"""The tiny text-to-image base model: an SD-style UNet with v-prediction, and its text encoder."""

from __future__ import annotations

import copy

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipeline_lib.shapes.build.optimise import Log, minimise, to_tensor
from pipeline_lib.shapes.build.pretrain_clip import WIDTH, token_table
from pipeline_lib.shapes.grammar import split_captions
from pipeline_lib.shapes.web import draw

BATCH = 48
RATE = 1.5e-3
DROPPED_PROMPTS = 0.10
EMA_DECAY = 0.998
POOL_PER_CAPTION = 12


def new_scheduler(prediction_type: str, zero_terminal_snr: bool = False) -> DDIMScheduler:
    """Stable Diffusion's schedule; with `zero_terminal_snr` its last step is pure noise (Lin et al., 2023).

    Without it the noisiest latents still show where the shape stands, and the model never learns that from the text.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
        timestep_spacing="trailing" if zero_terminal_snr else "leading",
        rescale_betas_zero_snr=zero_terminal_snr,
    )


def new_unet() -> UNet2DConditionModel:
    """1.12 million parameters. The pooled text also reaches the time embedding, which the stock pipeline supports."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def text_encoder_of(clip: CLIPModel) -> CLIPTextModel:
    """The text tower of the tiny CLIP as a stand-alone text encoder (a copy)."""
    config = CLIPTextConfig(**clip.config.text_config.to_dict())
    encoder = CLIPTextModel(config)
    encoder.load_state_dict(copy.deepcopy(tower_state(clip, encoder)))
    return encoder.eval()


def tower_state(clip: CLIPModel, encoder: nn.Module) -> dict[str, Tensor]:
    """The text tower's tensors under the names that `encoder` gives them."""
    tower = clip.text_model.state_dict()
    names = encoder.state_dict().keys()
    return {name: tower[name.removeprefix("text_model.")] for name in names}


@torch.no_grad()
def latent_pool(vae: AutoencoderKL, seed: int, per_caption: int) -> tuple[Tensor, list[str]]:
    """Web pictures of all train captions as scaled latents (n, 4, 16, 16), and their captions."""
    rng = np.random.default_rng(seed)
    captions = [caption for caption in split_captions("train") for _ in range(per_caption)]
    scale = vae.config.scaling_factor
    generator = torch.Generator().manual_seed(seed)
    latents = [
        vae.encode(to_tensor(draw(captions[start : start + 256], rng)) * 2 - 1).latent_dist.sample(generator) * scale
        for start in range(0, len(captions), 256)
    ]
    return torch.cat(latents), captions


def train_unet(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    late_bias: float,
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    steps: int,
    seed: int,
    per_caption: int = POOL_PER_CAPTION,
) -> tuple[UNet2DConditionModel, Log]:
    """Train `unet` on web pictures, with the text encoder frozen; returns the averaged (EMA) weights.

    Timesteps are 1000 * uniform**late_bias: 1 draws them evenly, less than 1 favours noisy ones, where the layout is
    decided.
    """
    unet.train().requires_grad_(True)
    latents, captions = latent_pool(vae, seed, per_caption)
    table = token_table(tokenizer, tuple(dict.fromkeys([*captions, ""])))
    with torch.no_grad():
        rows = torch.stack(list(table.values()))
        hidden = torch.cat([encoder(input_ids=part).last_hidden_state for part in rows.split(256)])
    row_of = {caption: row for row, caption in enumerate(table)}
    text_rows = torch.tensor([row_of[caption] for caption in captions])
    average = copy.deepcopy(unet).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)

    def loss_at(step: int) -> Tensor:
        chosen = torch.randint(len(latents), (BATCH,), generator=generator)
        dropped = torch.rand(BATCH, generator=generator) < DROPPED_PROMPTS
        text = hidden[torch.where(dropped, row_of[""], text_rows[chosen])]
        clean = latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        # One draw in each of BATCH equal bins: the same distribution as independent draws, with less variance.
        uniform = (torch.arange(BATCH) + torch.rand(BATCH, generator=generator)) / BATCH
        times = (1000 * uniform**late_bias).long().clamp(max=999)
        noisy = scheduler.add_noise(clean, noise, times)
        target = scheduler.get_velocity(clean, noise, times)
        return functional.mse_loss(unet(noisy, times, text).sample, target)

    def after_step(step: int) -> None:
        update_average(average, unet, min(EMA_DECAY, (step + 1) / (step + 10)))

    log = minimise(unet.parameters(), loss_at, steps, RATE, "unet", after_step=after_step)
    return average.eval(), log


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the current ones."""
    for old, new in zip(average.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
