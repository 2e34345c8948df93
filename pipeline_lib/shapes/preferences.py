"""What the reward models learn from: pools of images, disjoint in prompts and images from the shipped pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.shapes.annotators import Crowd, judge
from pipeline_lib.shapes.grammar import split_captions
from pipeline_lib.shapes.renderer import Floats, to_uint8
from pipeline_lib.shapes.truth import attributes
from pipeline_lib.shapes.web import draw

PAIR_PROMPTS = 400


def pair_captions() -> tuple[str, ...]:
    """The train captions that the shipped pairs are about."""
    return split_captions("train")[:PAIR_PROMPTS]


def reward_captions() -> tuple[str, ...]:
    """The train captions that reward models learn from: none of the shipped pairs', none held out."""
    return split_captions("train")[PAIR_PROMPTS:]


@dataclass(frozen=True)
class Pool:
    """Images (n, 32, 32, 3) uint8 in groups: rows g*per_caption ... belong to captions[g]; attributes (n, 7)."""

    images: NDArray[np.uint8]
    parts: Floats
    captions: tuple[str, ...]
    per_caption: int


def make_pool(images: NDArray[np.uint8], captions: Sequence[str], per_caption: int) -> Pool:
    """A pool of images listed caption by caption, with their attributes measured."""
    repeated = [caption for caption in captions for _ in range(per_caption)]
    return Pool(images, attributes(images, repeated), tuple(captions), per_caption)


def web_pool(captions: Sequence[str], per_caption: int, seed: int) -> Pool:
    """A pool of web pictures."""
    repeated = [caption for caption in captions for _ in range(per_caption)]
    return make_pool(to_uint8(draw(repeated, np.random.default_rng(seed))), captions, per_caption)


@dataclass(frozen=True)
class Comparisons:
    """A batch of comparisons within captions: rows of the pool, caption index, and verdicts (1, 0, 0.5)."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    group: NDArray[np.int64]
    verdict: Floats


def compare(pool: Pool, people: Crowd, count: int, rng: np.random.Generator, extra_noise: float = 0.0) -> Comparisons:
    """`count` random comparisons by random people; `extra_noise` is the share of verdicts turned round."""
    group = rng.integers(0, len(pool.captions), count)
    first = rng.integers(0, pool.per_caption, count)
    second = (first + rng.integers(1, pool.per_caption, count)) % pool.per_caption
    left, right = group * pool.per_caption + first, group * pool.per_caption + second
    judges = people.weights[rng.integers(0, len(people.weights), count)]
    verdict = judge(pool.parts[left], pool.parts[right], judges, rng)
    turned = rng.random(count) < extra_noise
    return Comparisons(left, right, group, np.where(turned, 1 - verdict, verdict).astype(np.float32))
