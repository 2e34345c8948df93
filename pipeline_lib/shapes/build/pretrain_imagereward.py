"""The tiny ImageReward: BLIP-shaped, trained on few comparisons, with the official standardisation of its output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import BertTokenizer

from pipeline_lib.shapes.blip import TinyImageReward
from pipeline_lib.shapes.build.optimise import Log, to_tensor
from pipeline_lib.shapes.build.preferences import Pool
from pipeline_lib.shapes.build.pretrain_clip import normalised
from pipeline_lib.shapes.build.pretrain_preference import PairScores, Recipe, tune

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""The official reward is (raw - MEAN) / STD."""

MAX_LENGTH = 35


def bert_tokens(tokenizer: BertTokenizer, captions: Sequence[str]) -> Tensor:
    """Token ids (n, 35), padded with 0 as ImageReward pads."""
    return tokenizer(
        list(captions), padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
    )["input_ids"]


def reward_scores(model: TinyImageReward) -> PairScores:
    """Standardised rewards as logits."""

    def scores(images: Tensor, tokens: Tensor) -> Tensor:
        longest = int((tokens != 0).sum(dim=1).max())  # padding is masked, so it may as well be left out
        tokens = tokens[:, :longest]
        return (model(images, tokens, (tokens != 0).long()) - MEAN) / STD

    return scores


def train_imagereward(
    tokenizer: BertTokenizer,
    pools: Sequence[Pool],
    recipe: Recipe,
) -> tuple[TinyImageReward, Log]:
    """Train from nothing; the last bias is set so that the mean official reward over the pools is 0."""
    torch.manual_seed(recipe.seed)
    model = TinyImageReward().train()
    captions = tuple(dict.fromkeys(caption for pool in pools for caption in pool.captions))
    tokens = dict(zip(captions, bert_tokens(tokenizer, captions), strict=True))
    log = tune("imagereward", list(model.parameters()), reward_scores(model), pools, tokens, recipe)
    model.eval()
    with torch.no_grad():
        means = []
        for pool in pools:
            chosen = torch.arange(0, len(pool.images), max(1, len(pool.images) // 256))
            images = normalised(to_tensor(pool.images[chosen.numpy()].astype("float32") / 255))
            text = torch.stack([tokens[pool.captions[row // pool.per_caption]] for row in chosen.tolist()])
            means.append(model(images, text, (text != 0).long()).mean())
        last = model.mlp.layers[-1]
        if isinstance(last, torch.nn.Linear):
            last.bias.add_(MEAN - torch.stack(means).mean())
    return model, log
