"""Paired comparison of two models from their scores.

Everything here is a pure function of arrays. Row i of every array is one (prompt, seed): the same prompt and the same
initial noise for both models. All arithmetic is float64, whatever the scores' precision, and symmetric: swapping the
models turns every win rate w into exactly 1 - w and every difference d into exactly -d.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline_lib.core.errors import EvaluationError
from pipeline_lib.evaluation.significance import holm, sign_test
from pipeline_lib.evaluation.statistics import RESAMPLES, Floats, Interval, bootstrap, shares

TRUE = "true"
"""The column of the known truth. It judges the scorers, so it is neither averaged nor corrected together with them."""


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


def outcomes(challenger: ArrayLike, reference: ArrayLike, tie_spread: float = 0.0) -> Floats:
    """Per row 0.5 where the challenger scores higher, -0.5 where lower, 0 for a tie; shape (n,).

    Scores tie when they are equal or no further apart than `tie_spread` (0 or more) times the standard deviation of
    both models' scores together.

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
    # Sorted, so that the sum rounds alike whichever model comes first.
    margin = tie_spread * float(np.std(np.sort(np.concatenate([ours, theirs]))))
    return np.where(np.abs(difference) <= margin, 0.0, 0.5 * np.sign(difference))


def compare(
    challenger: Mapping[str, ArrayLike],
    reference: Mapping[str, ArrayLike],
    prompts: Sequence[str],
    *,
    tie_spread: float = 0.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two models, scorer by scorer.

    Args:
        challenger: scorer -> scores (n,) of the model in question.
        reference: the same scorers' scores (n,) of the model it is compared with, same rows.
        prompts: prompt id of each row; rows of one prompt are one cluster of the bootstrap.
        tie_spread: see `outcomes`.
        resamples, seed: of the bootstrap; all scorers share the resamples.

    Raises:
        EvaluationError: no scorer, fewer than two prompts, or arrays that do not fit together.
    """
    names, clusters, index = _checked(challenger, reference, prompts)
    judged = [name for name in names if name != TRUE] or names
    won = np.stack([outcomes(challenger[name], reference[name], tie_spread) for name in names], axis=1)
    if len(won) != len(index):
        raise EvaluationError(
            f"{len(won)} scores for {len(index)} prompts.", "Give one prompt id for each (prompt, seed) row."
        )
    gained = np.stack(
        [np.asarray(challenger[name], np.float64) - np.asarray(reference[name], np.float64) for name in names], axis=1
    )
    average = won[:, [names.index(name) for name in judged]].mean(axis=1)
    balances = np.concatenate([won, average[:, None]], axis=1)
    every = np.concatenate([balances, gained], axis=1)
    found = bootstrap(every, index, clusters, resamples=resamples, seed=seed)
    rates = shares(found, balances, index, clusters)
    differences = found[len(rates) :]

    p_values = {name: sign_test(won[:, i], index) for i, name in enumerate(names)}
    corrected = {**p_values, **dict(zip(judged, holm([p_values[name] for name in judged]), strict=True))}
    scorers = {
        name: WinRate(
            wins=int(np.sum(won[:, i] > 0)),
            ties=int(np.sum(won[:, i] == 0)),
            losses=int(np.sum(won[:, i] < 0)),
            win_rate=rates[i],
            difference=differences[i],
            p_value=p_values[name],
            p_holm=corrected[name],
        )
        for name, i in ((name, names.index(name)) for name in challenger)
    }
    return Comparison(rows=len(index), prompts=clusters, scorers=scorers, average=rates[-1])


def compare_by_category(
    challenger: Mapping[str, ArrayLike],
    reference: Mapping[str, ArrayLike],
    prompts: Sequence[str],
    categories: Sequence[str],
    *,
    tie_spread: float = 0.0,
) -> dict[str, Comparison]:
    """`compare` within each category (one per row), in alphabetical order; one with a single prompt is left out."""
    of_row = np.asarray(categories)
    found = {}
    for category in sorted(set(categories)):
        rows = np.flatnonzero(of_row == category)
        ids = [prompts[row] for row in rows.tolist()]
        if len(set(ids)) > 1:
            found[category] = compare(_rows(challenger, rows), _rows(reference, rows), ids, tie_spread=tie_spread)
    return found


def mean_difference(challenger: ArrayLike, reference: ArrayLike, prompts: Sequence[str]) -> Interval:
    """Mean (n,) of challenger minus reference with its interval clustered by prompt; at least two prompts."""
    clusters, index = np.unique(np.asarray(prompts), return_inverse=True)
    gained = np.asarray(challenger, np.float64) - np.asarray(reference, np.float64)
    return bootstrap(gained[:, None], index, len(clusters))[0]


def _rows(scores: Mapping[str, ArrayLike], rows: NDArray[np.integer]) -> dict[str, NDArray[np.generic]]:
    return {name: np.asarray(values)[rows] for name, values in scores.items()}


def _checked(
    challenger: Mapping[str, ArrayLike], reference: Mapping[str, ArrayLike], prompts: Sequence[str]
) -> tuple[list[str], int, NDArray[np.integer]]:
    """Scorers in alphabetical order (a matrix product may round by position), number of prompts, each row's prompt."""
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
    return sorted(challenger), len(clusters), index
