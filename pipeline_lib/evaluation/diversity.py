"""Diversity within a prompt: how far apart a model's images for one prompt lie. It falls when a model collapses.

The distance is one minus the cosine of image embeddings, from an image tower that is loaded for scoring anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline_lib.scoring.base import Scorer

DIVERSITY = "diversity"
"""Column of image-scores: mean distance (0..2) from the prompt's other images; only with two or more seeds."""


def embedder(scorer: Scorer) -> Scorer:
    """A "scorer" whose scores are the embeddings (n, d) of `scorer`'s tower, so that both share one forward pass."""
    from pipeline_lib.scoring.base import Scorer, no_prompts

    return Scorer(DIVERSITY, False, scorer.tower, no_prompts, lambda seen, _: seen)


def distances(embeddings: NDArray[np.floating], groups: Sequence[str]) -> NDArray[np.float32]:
    """Mean cosine distance (n,) of each image from the others of its group.

    Args:
        embeddings: (n, d), of any length but zero.
        groups: prompt id of each image; every group needs two images or more.
    """
    unit = np.asarray(embeddings, np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    _, index, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), unit.shape[1]))
    np.add.at(sums, index, unit)
    others = np.einsum("nd,nd->n", unit, sums[index] - unit) / (sizes[index] - 1)
    return (1.0 - others).astype(np.float32)
