"""How far annotators agree: with the human labels, and with each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import polars as pl

from pipeline_lib.labels.steps import HUMAN
from pipeline_lib.labels.table import pair_table, vote_of
from pipeline_lib.store import Dataset

Z95 = 1.959963984540054


def agreement(pairs: Dataset, scores: Mapping[str, Dataset]) -> dict[str, Any]:
    """Agreement of human labels and scorers over the pairs of an ingest.

    Returns:
        `pairs`, `ties`, `unlabelled`: counts. `accuracy`: per scorer against decided human labels, as
        {n, agree, accuracy, low, high}, with the 95% Wilson interval over pairs. `agreement`: per two annotators
        ("a|b", human among them) {n, agree, rate, kappa} over the pairs both decide. n leaves out pairs on which
        either abstains: human ties, equal or missing scores.
    """
    frame = pair_table(pairs, scores)
    return {
        "pairs": len(frame),
        "ties": int((frame["human"] == 0.5).sum()),
        "unlabelled": frame["human"].null_count(),
        **agreement_of(frame, list(scores)),
    }


def agreement_of(frame: pl.DataFrame, scorers: Sequence[str]) -> dict[str, Any]:
    """The parts `accuracy` and `agreement` for a table of `table.pair_table`."""
    votes = frame.select(vote_of(name).alias(name) for name in (HUMAN, *scorers))
    accuracy, rates = {}, {}
    for a, b in combinations(votes.columns, 2):
        both = votes.filter((pl.col(a) != 0) & (pl.col(b) != 0))
        n, agree = len(both), int((both[a] == both[b]).sum())
        if a == HUMAN:
            low, high = wilson(agree, n)
            accuracy[b] = {"n": n, "agree": agree, "accuracy": _share(agree, n), "low": low, "high": high}
        first, second = _share((both[a] > 0).sum(), n), _share((both[b] > 0).sum(), n)
        rates[f"{a}|{b}"] = {
            "n": n,
            "agree": agree,
            "rate": _share(agree, n),
            "kappa": _kappa(agree, n, first, second),
        }
    return {"accuracy": accuracy, "agreement": rates}


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _kappa(agree: int, n: int, first: float | None, second: float | None) -> float | None:
    """Cohen's kappa of two annotators who prefer image_0 with shares `first` and `second`; None where undefined."""
    if first is None or second is None:
        return None
    chance = first * second + (1 - first) * (1 - second)
    return None if chance == 1 else (agree / n - chance) / (1 - chance)


def _share(part: Any, n: int) -> float | None:
    return int(part) / n if n else None
