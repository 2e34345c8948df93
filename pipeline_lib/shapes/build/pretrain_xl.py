"""The tiny SDXL-shaped model: two text encoders, size and crop conditioning, noise (epsilon) prediction."""

from __future__ import annotations

import copy

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipeline_lib.shapes.build.optimise import Log, minimise
from pipeline_lib.shapes.build.pretrain_clip import PROJECTION, WIDTH, token_table
from pipeline_lib.shapes.build.pretrain_unet import (
    DROPPED_PROMPTS,
    EMA_DECAY,
    POOL_PER_CAPTION,
    latent_pool,
    new_scheduler,
    text_encoder_of,
    tower_state,
    update_average,
)

BATCH = 48
RATE = 1.5e-3
SIDE = 32.0
TIME_ID_WIDTH = 8


def new_unet_xl() -> UNet2DConditionModel:
    """0.7 million parameters; cross-attention to both encoders' hidden states, side by side as in SDXL."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(24, 48),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1),
        cross_attention_dim=2 * WIDTH,
        attention_head_dim=(3, 6),
        use_linear_projection=True,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=6 * TIME_ID_WIDTH + PROJECTION,
    )


def text_encoders_of(clip: CLIPModel) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Two text encoders with the tiny CLIP's text tower; the second has its projection."""
    config = CLIPTextConfig(**clip.config.text_config.to_dict())
    second = CLIPTextModelWithProjection(config)
    state = tower_state(clip, second.text_model)
    second.text_model.load_state_dict(state)
    second.text_projection.load_state_dict(clip.text_projection.state_dict())
    return text_encoder_of(clip), second.eval()


def train_unet_xl(
    vae: AutoencoderKL,
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    steps: int,
    seed: int,
    per_caption: int = POOL_PER_CAPTION,
) -> tuple[UNet2DConditionModel, CLIPTextModel, CLIPTextModelWithProjection, Log]:
    """Train on the same pictures as the base model, all at their full size and uncropped; returns averaged weights."""
    torch.manual_seed(seed)
    first, second = text_encoders_of(clip)
    latents, captions = latent_pool(vae, seed, per_caption)
    table = token_table(tokenizer, tuple(dict.fromkeys(captions)))
    row_of = {caption: row for row, caption in enumerate(table)}
    text_rows = torch.tensor([row_of[caption] for caption in captions])
    hidden, pooled = _encode(first, second, torch.stack(list(table.values())))
    # SDXL's unconditional branch is zeros (force_zeros_for_empty_prompt); the last row stands for it.
    hidden = torch.cat([hidden, torch.zeros_like(hidden[:1])])
    pooled = torch.cat([pooled, torch.zeros_like(pooled[:1])])
    scheduler = new_scheduler("epsilon")
    unet = new_unet_xl()
    average = copy.deepcopy(unet).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    time_ids = torch.tensor([SIDE, SIDE, 0.0, 0.0, SIDE, SIDE]).expand(BATCH, -1)

    def loss_at(step: int) -> Tensor:
        chosen = torch.randint(len(latents), (BATCH,), generator=generator)
        dropped = torch.rand(BATCH, generator=generator) < DROPPED_PROMPTS
        rows = torch.where(dropped, len(hidden) - 1, text_rows[chosen])
        noise = torch.randn(latents[chosen].shape, generator=generator)
        times = torch.randint(0, 1000, (BATCH,), generator=generator)
        noisy = scheduler.add_noise(latents[chosen], noise, times)
        conditions = {"text_embeds": pooled[rows], "time_ids": time_ids}
        return functional.mse_loss(unet(noisy, times, hidden[rows], added_cond_kwargs=conditions).sample, noise)

    def after_step(step: int) -> None:
        update_average(average, unet, min(EMA_DECAY, (step + 1) / (step + 10)))

    log = minimise(unet.parameters(), loss_at, steps, RATE, "unet-xl", after_step=after_step)
    return average.eval(), first, second, log


@torch.no_grad()
def _encode(first: CLIPTextModel, second: CLIPTextModelWithProjection, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states (n, L, 192) before both encoders' last layers, and the pooled text (n, 64), as SDXL takes them."""
    hidden, pooled = [], []
    for part in tokens.split(256):
        one = first(input_ids=part, output_hidden_states=True)
        two = second(input_ids=part, output_hidden_states=True)
        hidden.append(torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1))
        pooled.append(two.text_embeds)
    return torch.cat(hidden), torch.cat(pooled)
