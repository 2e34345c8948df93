"""Adaptive-DPO as paper and authors' code read, in float64 NumPy and written independently of the code under test.

Inputs are `ells` [m, n]: for every model m (the policy first) and pair, how much more than the reference it prefers
the labelled winner. `beta` is the papers' (without the half).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RHO = 15.0


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def authors_metric(ells: Array) -> Array:
    """The authors' code on its micro-batch of 16: `normalize` over it, times rho; |mean sigmoid - 1| * clamp(std).

    Of other numbers of pairs, n, every L2 norm is taken as if 16 such pairs were there: it grows with the root of n.
    """
    n = ells.shape[1]
    norm = np.array([np.sqrt(sum(value**2 for value in row)) for row in ells]) * np.sqrt(16 / n)
    predictions = np.array([RHO * row / length for row, length in zip(ells, norm, strict=True)])
    mean = predictions.sum(0) / len(ells)
    deviation = np.sqrt(((predictions - mean) ** 2).sum(0) / (len(ells) - 1))
    return np.abs(sigmoid(predictions).mean(0) - 1) * np.minimum(deviation, 1)


def equations_11_to_13(ells: Array) -> Array:
    """The paper: c of eq. 11, s of eq. 12, u = s c of eq. 13, with rho in the scale of ell "in Eq. 13", of both."""
    n = ells.shape[1]
    scaled = ells / np.sqrt((ells**2).sum(1) * 16 / n)[:, None] * RHO
    confidence = 1 - sum(sigmoid(row) for row in scaled) / len(scaled)
    average = sum(scaled) / len(scaled)
    stability = sum((row - average) ** 2 for row in scaled) / (len(scaled) - 1)
    return np.asarray(stability * confidence)


def unscaled(ells: Array) -> Array:
    """Eq. 12 as it is printed, without rho; rho in eq. 11 alone."""
    n = ells.shape[1]
    normalised = ells / np.sqrt((ells**2).sum(1) * 16 / n)[:, None]
    return np.asarray(np.var(normalised, axis=0, ddof=1) * (1 - sigmoid(RHO * normalised).mean(0)))


METRICS: dict[str, Callable[[Array], Array]] = {
    "authors": authors_metric,
    "variance": equations_11_to_13,
    "unscaled": unscaled,
}
OFFSETS: dict[str, Callable[[Array, float], float]] = {
    "logits": lambda ell, beta: float(np.mean(beta * ell)),
    "authors": lambda ell, beta: float(np.mean(ell)),
}
"""c2 of eq. 16: the mean of the logits (paper, 5.1), or of what the authors' code calls logits, before beta."""


def weight(u: Array, k1: float) -> Array:
    """Eq. 15."""
    return 1 / (1 + k1 * u)


def margin(u: Array, ell: Array, beta: float, offset: str) -> Array:
    """Eq. 16 with k2 = -1 / beta."""
    return -(u**2) / beta + OFFSETS[offset](ell, beta)


def adaptive_dpo(ells: Array, beta: float, k1: float, stability: str, offset: str) -> Array:
    """Eq. 14, pair by pair."""
    u = METRICS[stability](ells)
    z = beta * ells[0] - margin(u, ells[0], beta, offset)
    return weight(u, k1) * np.log1p(np.exp(-z))


def adaptive_ipo(ells: Array, beta: float, k1: float, stability: str) -> Array:
    """Eq. 24, pair by pair: the logit is ell itself, so both offsets are its mean."""
    u = METRICS[stability](ells)
    gamma = -(u**2) / beta + ells[0].mean()
    return weight(u, k1) * (ells[0] - gamma - 1 / (2 * beta)) ** 2
