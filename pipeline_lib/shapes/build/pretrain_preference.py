"""Preference tuning of the two CLIP-shaped reward models: PickScore (CLIPModel) and HPSv2 (open_clip)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

from pipeline_lib.shapes.annotators import crowd
from pipeline_lib.shapes.build.optimise import Log, minimise, to_tensor
from pipeline_lib.shapes.build.preferences import GROUP, Pool, hold_contests
from pipeline_lib.shapes.build.pretrain_clip import PROJECTION, WIDTH, clip_config, normalised, token_table
from pipeline_lib.shapes.tokenizers import CONTEXT, clip_vocabulary

BATCH = 24
"""Contests per step."""

PairScores = Callable[[Tensor, Tensor], Tensor]
"""Normalised images (n, 3, 32, 32) and tokens (n, L) -> scores (n,), in the units of a logit."""


@dataclass(frozen=True)
class Recipe:
    """What one reward model is trained on; the levers of the calibration."""

    steps: int
    rate: float
    contests: int  # distinct contests it learns from, each of six comparisons
    seed: int


def tune(
    name: str,
    parameters: Sequence[Tensor],
    scores: PairScores,
    pools: Sequence[Pool],
    tokens: dict[str, Tensor],
    recipe: Recipe,
) -> Log:
    """Fit scores to verdicts by the cross-entropy of softmax(score_a, score_b), as PickScore's (ties: 0.5)."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    people = crowd(200, recipe.seed)
    sets = [hold_contests(pool, people, recipe.contests // len(pools), rng) for pool in pools]
    one, two = np.triu_indices(GROUP, k=1)

    def loss_at(step: int) -> Tensor:
        pixels, text, verdicts = [], [], []
        for pool, known in zip(pools, sets, strict=True):
            chosen = rng.integers(0, len(known.rows), BATCH // len(pools))
            pixels.append(pool.images[known.rows[chosen].ravel()])
            text += [tokens[pool.captions[caption]] for caption in known.caption[chosen]]
            verdicts.append(known.verdicts[chosen][:, one, two])
        images = normalised(to_tensor(np.concatenate(pixels).astype(np.float32) / 255))
        each = scores(images, torch.stack(text).repeat_interleave(GROUP, dim=0)).view(-1, GROUP)
        wanted = torch.from_numpy(np.concatenate(verdicts))
        return functional.binary_cross_entropy_with_logits(each[:, one] - each[:, two], wanted)

    return minimise(parameters, loss_at, recipe.steps, recipe.rate, name)


def clip_scores(model: CLIPModel) -> PairScores:
    """logit_scale * cosine of a CLIPModel."""

    def scores(images: Tensor, tokens: Tensor) -> Tensor:
        texts, which = torch.unique(tokens, dim=0, return_inverse=True)
        vision = model.visual_projection(model.vision_model(pixel_values=images).pooler_output)
        text = model.text_projection(model.text_model(input_ids=texts).pooler_output)
        return model.logit_scale.exp() * functional.cosine_similarity(vision, text[which])

    return scores


def open_clip_scores(model: open_clip.CLIP) -> PairScores:
    """logit_scale * cosine of an open_clip model."""

    def scores(images: Tensor, tokens: Tensor) -> Tensor:
        texts, which = torch.unique(tokens, dim=0, return_inverse=True)
        vision, text = model.encode_image(images, normalize=True), model.encode_text(texts, normalize=True)
        return model.logit_scale.exp() * (vision * text[which]).sum(dim=-1)

    return scores


def train_pickscore(
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    pools: Sequence[Pool],
    recipe: Recipe,
) -> tuple[CLIPModel, Log]:
    """PickScore: the tiny CLIP (with GELU, as LAION's) tuned on comparisons."""
    model = CLIPModel(clip_config("gelu"))
    model.load_state_dict(clip.state_dict())
    tokens = token_table(tokenizer, tuple(caption for pool in pools for caption in pool.captions))
    log = tune("pickscore", list(model.parameters()), clip_scores(model), pools, tokens, recipe)
    return model.eval(), log


def hps_model_config() -> dict[str, object]:
    """open_clip's `model_cfg` of the tiny HPSv2 (nn.GELU, as ViT-H-14)."""
    return {
        "embed_dim": PROJECTION,
        "vision_cfg": {
            "image_size": 32,
            "layers": 3,
            "width": WIDTH,
            "head_width": WIDTH // 4,
            "patch_size": 4,
            "mlp_ratio": 3.0,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": len(clip_vocabulary()),
            "width": WIDTH,
            "heads": 4,
            "layers": 2,
            "mlp_ratio": 3.0,
        },
    }


def new_hps() -> open_clip.CLIP:
    return open_clip.CLIP(**hps_model_config(), quick_gelu=False)


def train_hps(
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    pools: Sequence[Pool],
    recipe: Recipe,
) -> tuple[open_clip.CLIP, Log]:
    """HPSv2: the tiny CLIP's weights in open_clip's architecture, tuned on comparisons."""
    model = new_hps()
    model.load_state_dict(open_clip_state(clip), strict=False)
    tokens = token_table(tokenizer, tuple(caption for pool in pools for caption in pool.captions))
    log = tune("hpsv2", list(model.parameters()), open_clip_scores(model), pools, tokens, recipe)
    return model.eval(), log


def open_clip_state(clip: CLIPModel) -> dict[str, Tensor]:
    """A CLIPModel's tensors under open_clip's names."""
    source = clip.state_dict()
    state = {
        "visual.class_embedding": source["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": source["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": source["vision_model.embeddings.patch_embedding.weight"],
        "visual.proj": source["visual_projection.weight"].T,
        "token_embedding.weight": source["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": source["text_model.embeddings.position_embedding.weight"],
        "text_projection": source["text_projection.weight"].T,
        "logit_scale": source["logit_scale"],
    }
    for old, new in {
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "text_model.final_layer_norm": "ln_final",
    }.items():
        for kind in ("weight", "bias"):
            state[f"{new}.{kind}"] = source[f"{old}.{kind}"]
    for tower, prefix in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
        layers = 3 if tower == "vision_model" else 2
        for layer in range(layers):
            old, new = f"{tower}.encoder.layers.{layer}", f"{prefix}.resblocks.{layer}"
            for kind in ("weight", "bias"):
                state[f"{new}.attn.in_proj_{kind}"] = torch.cat(
                    [source[f"{old}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
                )
                for before, after in {
                    "self_attn.out_proj": "attn.out_proj",
                    "layer_norm1": "ln_1",
                    "layer_norm2": "ln_2",
                    "mlp.fc1": "mlp.c_fc",
                    "mlp.fc2": "mlp.c_proj",
                }.items():
                    state[f"{new}.{after}.{kind}"] = source[f"{old}.{before}.{kind}"]
    return {name: tensor.detach().clone() for name, tensor in state.items()}
