"""People who compare images: a majority, a minority with one reversed taste, and noise.

A choice between images a and b follows Bradley-Terry: a wins when u(a) - u(b) + T * logistic noise > 0, and it is a
tie when that sum is small. Everybody weighs the attributes a little differently.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.shapes.renderer import Floats
from pipeline_lib.shapes.truth import ATTRIBUTES, WEIGHTS

REVERSED = "vividness"
"""The attribute whose taste the minority has the other way round: they like muted colours."""

MINORITY_SHARE = 0.18
TASTE_SPREAD = 0.25
"""Standard deviation of the log of a person's attribute weights around the common ones."""

TEMPERATURE = 0.15
"""Scale of the logistic noise, in units of utility."""

TIE_WIDTH = 0.10
"""Felt differences below this, in units of utility, are called a tie."""


@dataclass(frozen=True)
class Crowd:
    """People by index: ids (n,), attribute weights (n, 7), and who has the reversed taste (n,)."""

    user_ids: NDArray[np.int64]
    weights: Floats
    is_minority: NDArray[np.bool_]


def crowd(size: int, seed: int) -> Crowd:
    """`size` people, MINORITY_SHARE of them (rounded) with the reversed taste."""
    rng = np.random.default_rng(seed)
    common = np.array(list(WEIGHTS.values()))
    weights = common * np.exp(TASTE_SPREAD * rng.standard_normal((size, len(common))))
    is_minority = np.zeros(size, dtype=bool)
    is_minority[rng.permutation(size)[: round(MINORITY_SHARE * size)]] = True
    weights[is_minority, ATTRIBUTES.index(REVERSED)] *= -1
    return Crowd(np.arange(1, size + 1, dtype=np.int64), weights.astype(np.float32), is_minority)


def judge(
    left: Floats,
    right: Floats,
    weights: Floats,
    rng: np.random.Generator,
    temperature: float = TEMPERATURE,
    tie_width: float = TIE_WIDTH,
) -> Floats:
    """Verdicts (n,) on pairs by people: 1 left wins, 0 right wins, 0.5 a tie.

    `left`, `right` and `weights` are (n, 7): the attributes of the two images, and the weights of who judges.
    """
    felt = ((left - right) * weights).sum(axis=1) + temperature * rng.logistic(size=len(left))
    verdict = np.where(felt > 0, 1.0, 0.0)
    return np.where(np.abs(felt) < tie_width, 0.5, verdict).astype(np.float32)
