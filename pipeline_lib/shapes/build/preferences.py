"""What the reward models learn from: pools of images, disjoint in prompts and images from the shipped pairs."""

from __future__ import annotations

import itertools
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
GROUP = 4
"""Images that one person compares in one go when reward models are trained."""


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
class Contests:
    """Groups of GROUP images of one caption, each judged pairwise by one person.

    rows (n, GROUP) of the pool, caption index (n,), verdicts (n, GROUP, GROUP): [i, a, b] is 1 when a beats b, 0.5 a
    tie.
    """

    rows: NDArray[np.int64]
    caption: NDArray[np.int64]
    verdicts: Floats


def hold_contests(pool: Pool, people: Crowd, count: int, rng: np.random.Generator) -> Contests:
    """`count` contests of random images of random captions, each judged by a random person."""
    caption = rng.integers(0, len(pool.captions), count)
    chosen = rng.random((count, pool.per_caption)).argsort(axis=1)[:, :GROUP]
    rows = caption[:, None] * pool.per_caption + chosen
    judges = people.weights[rng.integers(0, len(people.weights), count)]
    verdicts = np.full((count, GROUP, GROUP), 0.5, dtype=np.float32)
    for one, two in itertools.combinations(range(GROUP), 2):
        verdict = judge(pool.parts[rows[:, one]], pool.parts[rows[:, two]], judges, rng)
        verdicts[:, one, two], verdicts[:, two, one] = verdict, 1 - verdict
    return Contests(rows, caption, verdicts)
