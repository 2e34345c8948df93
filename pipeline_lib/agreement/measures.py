"""Agreement of annotators (people and scorers) over pairs of images, from a table of `labels.table.pair_table`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from pipeline_lib.core.intervals import wilson
from pipeline_lib.labels.steps import HUMAN
from pipeline_lib.labels.table import preferences


def agreement_of(frame: pl.DataFrame, scorers: Sequence[str]) -> dict[str, Any]:
    """Agreement of people and scorers.

    Returns:
        `pairs`, `ties`, `unlabelled`: counts, the latter two of human labels.
        `accuracy`: per scorer against decided human labels, {n, agree, accuracy, low, high, ties, missing}, with the
        95% Wilson interval over pairs; `ties` (equal scores) and `missing` (an image without score) are counted over
        all pairs, and such pairs are not in n.
        `agreement`: per two annotators ("a|b", human first) {n, agree, rate, kappa} over the pairs both decide, and
        {ranked, spearman} over the pairs both know (see `spearman`).
        Shares, kappa and spearman are None where they are not defined.
    """
    known = preferences(frame, scorers)
    votes = {name: np.sign(np.nan_to_num(values)).astype(np.int8) for name, values in known.items()}
    ranks = {name: None if np.isnan(values).any() else signed_ranks(values) for name, values in known.items()}
    accuracy, rates = {}, {}
    for a, b in combinations(known, 2):
        both = (votes[a] != 0) & (votes[b] != 0)
        n, agree = int(both.sum()), int((votes[a][both] == votes[b][both]).sum())
        if a == HUMAN:
            low, high = wilson(agree, n)
            accuracy[b] = {
                "n": n,
                "agree": agree,
                "accuracy": agree / n if n else None,
                "low": low,
                "high": high,
                "ties": int((known[b] == 0).sum()),
                "missing": int(np.isnan(known[b]).sum()),
            }
        ranked = ~(np.isnan(known[a]) | np.isnan(known[b]))
        first, second = (
            signed_ranks(known[name][ranked]) if (whole := ranks[name]) is None or not ranked.all() else whole
            for name in (a, b)
        )
        rates[f"{a}|{b}"] = {
            "n": n,
            "agree": agree,
            "rate": agree / n if n else None,
            "kappa": _kappa(votes[a][both], votes[b][both]),
            "ranked": int(ranked.sum()),
            "spearman": _correlation(first, second),
        }
    return {
        "pairs": len(frame),
        "ties": int((known[HUMAN] == 0).sum()),
        "unlabelled": int(np.isnan(known[HUMAN]).sum()),
        "accuracy": accuracy,
        "agreement": rates,
    }


def signed_ranks(values: np.ndarray) -> np.ndarray:
    """sign(v) * (rank(|v|) - 1/2), ranks from 1, equal values sharing their mean rank; 0 for 0.

    These are the centred ranks of the values among themselves and their negatives: what a rank correlation is made
    of when every pair of images is taken in both orders.
    """
    size = pl.Series(np.abs(values)).rank("average").to_numpy()
    return np.sign(values) * (size - 0.5)


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation of score differences, every pair counted in both orders (d, e) and (-d, -e).

    So it does not depend on which image of a pair is called the first one. None where either is zero throughout.
    """
    return _correlation(signed_ranks(first), signed_ranks(second))


def dispute(known: Mapping[str, np.ndarray], scorers: Sequence[str]) -> np.ndarray:
    """How strongly scorers contradict each other about every pair, float64 (pairs,) from 0.

    A scorer's conviction is the share of its pairs with a smaller difference (0 where it abstains or is missing). The
    dispute is the convictions' sum on the side that has less: high where both sides have convinced scorers.
    """
    convictions = np.stack([conviction(known[name]) for name in scorers])
    return np.minimum(np.clip(convictions, 0, None).sum(axis=0), np.clip(-convictions, 0, None).sum(axis=0))


def conviction(values: np.ndarray) -> np.ndarray:
    """Signed rank among the pairs known, in [-1, 1]: above zero for image_0; 0 where NaN."""
    found = ~np.isnan(values)
    result = np.zeros(len(values))
    result[found] = signed_ranks(values[found]) / max(1, found.sum())
    return result


def _kappa(first: np.ndarray, second: np.ndarray) -> float | None:
    """Cohen's kappa of two columns of votes -1 and 1; None where undefined."""
    if not len(first):
        return None
    a, b = float((first > 0).mean()), float((second > 0).mean())
    chance = a * b + (1 - a) * (1 - b)
    return None if chance == 1 else (float((first == second).mean()) - chance) / (1 - chance)


def _correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    scale = math.sqrt(float(first @ first)) * math.sqrt(float(second @ second))
    return None if scale == 0 else min(1.0, max(-1.0, float(first @ second) / scale))
