"""Paired comparison of two models from their scores: win rates with intervals clustered by prompt.

Everything here is a pure function of arrays. Row i of every array is one (prompt, seed): the same prompt and the same
initial noise for both models. All arithmetic is float64, whatever the scores' precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline_lib.errors import EvaluationError

TRUE = "true"
"""The column of the known truth. It judges the scorers, so it is neither averaged nor corrected together with them."""

CONFIDENCE = 0.95
RESAMPLES = 10_000
TIE_SPREAD = 1e-5
"""Scores closer than this share of their pooled standard deviation are a tie: below it is rounding, not preference."""

_BLOCK = 1 << 22

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A point estimate with its 95% interval."""

    point: float
    low: float
    high: float


@dataclass(frozen=True)
class WinRate:
    """One scorer's verdict. `wins` counts the rows in which the challenger scores higher than the reference."""

    wins: int
    ties: int
    losses: int
    win_rate: Interval
    """(wins + ties / 2) / rows."""
    difference: Interval
    """Mean of challenger minus reference, in the scorer's units."""
    p_value: float
    """Two-sided sign test over prompts: each counts once, whatever its number of seeds; tied ones are left out."""
    p_holm: float
    """The same, Holm-corrected over the scorers."""


@dataclass(frozen=True)
class Comparison:
    """All scorers' verdicts, and their average win rate (BalancedDPO reports this average)."""

    rows: int
    prompts: int
    scorers: Mapping[str, WinRate]
    average: Interval


def outcomes(challenger: ArrayLike, reference: ArrayLike) -> Floats:
    """Per row 1 where the challenger scores higher, 0 where lower, 0.5 for a tie (see TIE_SPREAD); shape (n,).

    Raises EvaluationError when the shapes differ or a score is not finite.
    """
    ours, theirs = np.asarray(challenger, np.float64), np.asarray(reference, np.float64)
    if ours.shape != theirs.shape or ours.ndim != 1 or not ours.size:
        raise EvaluationError(
            f"Scores to compare have the shapes {ours.shape} and {theirs.shape}.",
            "Give both models one score for each of the same (prompt, seed) rows.",
        )
    bad = int(np.sum(~np.isfinite(ours)) + np.sum(~np.isfinite(theirs)))
    if bad:
        raise EvaluationError(
            f"{bad} of {2 * ours.size} scores are not finite.",
            "Look at the scorer's inputs: its images or weights are broken.",
        )
    difference = ours - theirs
    margin = TIE_SPREAD * float(np.std(np.concatenate([ours, theirs])))
    return np.where(np.abs(difference) <= margin, 0.5, (difference > 0).astype(np.float64))


def compare(
    challenger: Mapping[str, ArrayLike],
    reference: Mapping[str, ArrayLike],
    prompts: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two models, scorer by scorer.

    Args:
        challenger: scorer -> scores (n,) of the model in question.
        reference: the same scorers' scores (n,) of the model it is compared with, same rows.
        prompts: prompt id of each row; rows of one prompt are one cluster of the bootstrap.
        resamples: bootstrap resamples. Prompts are drawn with replacement, the same draw for all scorers, and the
            interval runs between the 2.5% and 97.5% quantiles. Where all prompts agree, the bootstrap cannot see any
            uncertainty, and the interval is the exact binomial one for that many prompts.
        seed: of the bootstrap.

    Raises:
        EvaluationError: no scorer, fewer than two prompts, or arrays that do not fit together.
    """
    clusters, index = np.unique(np.asarray(prompts), return_inverse=True)
    if set(challenger) != set(reference) or not challenger:
        raise EvaluationError(
            f"The models were scored by different scorers: {sorted(challenger)} and {sorted(reference)}.",
            "Score both models' images with the same scorers.",
        )
    if len(clusters) < 2:
        raise EvaluationError(
            f"A comparison needs at least two prompts to have an interval; got {len(clusters)}.", "Raise num_prompts."
        )
    names = list(challenger)
    judged = [name for name in names if name != TRUE] or names
    wins = np.stack([outcomes(challenger[name], reference[name]) for name in names], axis=1)
    if len(wins) != len(index):
        raise EvaluationError(
            f"{len(wins)} scores for {len(index)} prompts.", "Give one prompt id for each (prompt, seed) row."
        )
    differences = np.stack(
        [np.asarray(challenger[name], np.float64) - np.asarray(reference[name], np.float64) for name in names], axis=1
    )
    average = wins[:, [names.index(name) for name in judged]].mean(axis=1)
    values = np.concatenate([wins, differences, average[:, None]], axis=1)
    intervals = bootstrap(values, index, len(clusters), resamples=resamples, seed=seed)

    rates = {name: _exact_if_unanimous(intervals[i], wins[:, i], len(clusters)) for i, name in enumerate(names)}
    p_values = {name: sign_test(wins[:, i], index) for i, name in enumerate(names)}
    corrected = {**p_values, **dict(zip(judged, holm([p_values[name] for name in judged]), strict=True))}
    scorers = {
        name: WinRate(
            wins=int(np.sum(wins[:, i] == 1.0)),
            ties=int(np.sum(wins[:, i] == 0.5)),
            losses=int(np.sum(wins[:, i] == 0.0)),
            win_rate=rates[name],
            difference=intervals[len(names) + i],
            p_value=p_values[name],
            p_holm=corrected[name],
        )
        for i, name in enumerate(names)
    }
    return Comparison(
        rows=len(index),
        prompts=len(clusters),
        scorers=scorers,
        average=_exact_if_unanimous(intervals[-1], average, len(clusters)),
    )


def bootstrap(
    values: Floats, index: NDArray[np.integer], clusters: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """Mean and percentile interval of each column of `values` (n, k), resampling whole clusters.

    `index` (n,) holds each row's cluster, 0..clusters-1. All columns share the resamples.
    """
    sizes = np.bincount(index, minlength=clusters).astype(np.float64)
    sums = np.stack([np.bincount(index, column, minlength=clusters) for column in values.T], axis=1)
    rng = np.random.default_rng(seed)
    even = np.full(clusters, 1.0 / clusters)
    block = max(1, _BLOCK // clusters)
    means = np.concatenate(
        [
            (drawn @ sums) / (drawn @ sizes)[:, None]
            for drawn in (
                rng.multinomial(clusters, even, size=min(block, resamples - start)).astype(np.float64)
                for start in range(0, resamples, block)
            )
        ]
    )
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    # An exact sum, so that the point does not depend on the order of the rows.
    points = [math.fsum(column) / len(column) for column in values.T]
    return [Interval(p, min(float(lo), p), max(float(hi), p)) for p, lo, hi in zip(points, low, high, strict=True)]


def sign_test(wins: Floats, index: NDArray[np.integer]) -> float:
    """Exact two-sided sign test over clusters: how likely so uneven a split of won and lost prompts is by chance."""
    balance = np.bincount(index, wins - 0.5)
    won, lost = int(np.sum(balance > 1e-9)), int(np.sum(balance < -1e-9))
    return binomial_two_sided(won, won + lost)


def binomial_two_sided(successes: int, trials: int) -> float:
    """P(a fair coin is at least as uneven as `successes` of `trials`); 1 for no trials."""
    if not trials:
        return 1.0
    fewer = min(successes, trials - successes)
    chosen = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(fewer + 1)]
    return min(1.0, 2.0 * math.fsum(math.exp(term - trials * math.log(2.0)) for term in chosen))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the order given (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _exact_if_unanimous(interval: Interval, wins: Floats, clusters: int) -> Interval:
    """Clopper-Pearson's bound where all rows won, or all lost: the bootstrap's interval would have length 0."""
    bound = ((1.0 - CONFIDENCE) / 2) ** (1.0 / clusters)
    if np.all(wins == 1.0):
        return Interval(1.0, bound, 1.0)
    if np.all(wins == 0.0):
        return Interval(0.0, 0.0, 1.0 - bound)
    return interval
