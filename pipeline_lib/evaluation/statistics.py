"""Means with bootstrap intervals clustered by prompt.

Rows of one prompt share its difficulty, so whole prompts are resampled. The interval is the expanded percentile
interval (Hesterberg 2015, "What teachers should know about the bootstrap"): the quantiles lie further out than 2.5%
and 97.5%, as far as Student's t does for that many prompts, because the plain percentile interval is too short for
few. Everything is symmetric to the last bit: negated values give the negated interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 9_999
"""One less than a round number: then the quantiles are order statistics (Davison and Hinkley 1997, section 2.4)."""

FEW = 10.0
"""With fewer prompts than this against the majority, a share's bootstrap has too little to resample."""

_BLOCK = 1 << 22
_GRID = 2.0**52

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A point estimate with its 95% interval."""

    point: float
    low: float
    high: float


def bootstrap(
    values: Floats, index: NDArray[np.integer], clusters: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """Mean of each column of `values` (n, k) with its interval, resampling whole clusters.

    Args:
        values: one row per observation; all columns share the resamples.
        index: each row's cluster (n,), 0..clusters-1.
        clusters: at least 2.
        resamples: at least 99.
        seed: of the resamples.
    """
    sizes = np.bincount(index, minlength=clusters).astype(np.float64)
    sums = _sums(values, index, clusters)
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // clusters)
    means = np.concatenate(
        [
            (drawn @ sums) / (drawn @ sizes)[:, None]
            for drawn in (_resample(rng, clusters, min(block, resamples - at)) for at in range(0, resamples, block))
        ]
    )
    first = max(round((resamples + 1) * _tail(clusters)), 1) - 1
    last = resamples - 1 - first
    means.partition([first, last], axis=0)
    # An exact sum, so that the point does not depend on the order of the rows.
    points = [math.fsum(column) / len(column) for column in values.T]
    return [
        Interval(p, min(float(low), p), max(float(high), p))
        for p, low, high in zip(points, means[first], means[last], strict=True)
    ]


def shares(found: Sequence[Interval], balances: Floats, index: NDArray[np.integer], clusters: int) -> list[Interval]:
    """Shares of the intervals `found`, of which the first k belong to `balances` (n, k) = share minus one half.

    Where few prompts (fewer than FEW, after allowing for the clusters) are against the majority, the interval is made
    at least as wide as Wilson's for that effective number of prompts. Where all prompts agree, the bootstrap sees no
    uncertainty at all; the interval then holds every share that is possible if at most 1 - 0.025^(1/prompts) of all
    prompts are unlike the ones seen, which for nothing but wins is Clopper and Pearson's.

    In simulations the intervals hold the true share in 93% to 97% of cases from 30 prompts on and for shares from 30%
    to 70%; closer to 0 or 1, with few prompts, they are made wider than needed and hold it more often.
    """
    sizes = np.bincount(index, minlength=clusters).astype(np.float64)
    sums = _sums(balances, index, clusters)
    intervals = []
    for column, interval in enumerate(found[: balances.shape[1]]):
        b = interval.point
        residuals = sums[:, column] - b * sizes
        variance = float(residuals @ residuals) / sizes.sum() ** 2 * clusters / (clusters - 1)
        low, high = interval.low, interval.high
        if variance < 1e-18:
            unlike = 1.0 - ((1.0 - CONFIDENCE) / 2) ** (1.0 / clusters)
            low, high = b - unlike * (0.5 + b), b + unlike * (0.5 - b)
        else:
            effective = (0.25 - b * b) / variance
            if (0.5 - abs(b)) * effective < FEW:
                centre, half = _wilson(b, effective, clusters)
                low, high = min(low, centre - half), max(high, centre + half)
        intervals.append(Interval(_share(b), _share(max(low, -0.5)), _share(min(high, 0.5))))
    return intervals


def _resample(rng: np.random.Generator, clusters: int, count: int) -> Floats:
    """How often each cluster is drawn (count, clusters) when as many as there are are drawn with replacement."""
    drawn = rng.integers(0, clusters, size=(count, clusters)) + clusters * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * clusters).reshape(count, clusters).astype(np.float64)


def _sums(values: Floats, index: NDArray[np.integer], clusters: int) -> Floats:
    return np.stack([np.bincount(index, column, minlength=clusters) for column in values.T], axis=1)


def _wilson(b: float, effective: float, clusters: int) -> tuple[float, float]:
    """Centre and half width of Wilson's interval for the share 0.5 + b, less 0.5."""
    t = _student(clusters)
    shrink = 1.0 + t * t / effective
    return b / shrink, t / shrink * math.sqrt((0.25 - b * b) / effective + (t / (2.0 * effective)) ** 2)


def _share(balance: float) -> float:
    """0.5 + balance, on a grid on which the sum is exact, so that shares of swapped models add up to exactly 1."""
    return 0.5 + round(balance * _GRID) / _GRID


@lru_cache(maxsize=64)
def _student(clusters: int) -> float:
    from scipy.stats import t

    return float(t.ppf(1.0 - (1.0 - CONFIDENCE) / 2, clusters - 1))


@lru_cache(maxsize=64)
def _tail(clusters: int) -> float:
    """The share of resamples to cut off at each end: 2.5% for many clusters, less for few."""
    from scipy.stats import norm

    return float(norm.cdf(-math.sqrt(clusters / (clusters - 1)) * _student(clusters)))
