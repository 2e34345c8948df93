"""What became of the pairs: the numbers of a label report, from a recipe's input and its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from pipeline_lib.core.intervals import wilson
from pipeline_lib.labels.steps import HUMAN, Step
from pipeline_lib.labels.table import preferences

BINS = 10
HIDDEN = "human, hidden"
"""Human labels that the pairs have and the recipe does not see."""


def waterfall(steps: Sequence[Step], counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """[{step, reason, dropped, left}] in the order in which pairs were dropped; step 0 is missing scores."""
    names = ["scores", *(step.name for step in steps)]
    left, rows = counts["pairs"], []
    for i, name in enumerate(names):
        prefix = f"dropped:{i}.{name}:"
        for key in sorted(key for key in counts if key.startswith(prefix)):
            left -= counts[key]
            rows.append({"step": f"{i}. {name}", "reason": key[len(prefix) :], "dropped": counts[key], "left": left})
    return rows


def measure(
    frame: pl.DataFrame, labels: pl.DataFrame, scorers: Sequence[str], truth: pl.DataFrame | None
) -> dict[str, Any]:
    """The numbers about the pairs kept.

    Args:
        frame: `table.pair_table` of the pairs kept, before the recipe, in the order of `labels`.
        labels: their labels (schema LABELS).
        scorers: those whose differences `frame` has.
        truth: a table of `sources.TRUTHS`, or None.

    Returns:
        `labels`: {image_0, image_1, tied, soft: [counts of BINS equal bins of the target], sources: {name: count}}.
        `vote_sums`: [[vote sum, pairs]], empty without a vote.
        `agreement`: annotator -> {n, agree, rate, low, high} of the final label with it, over the pairs that both
        decide, with 95% Wilson intervals; human labels hidden from the recipe have an entry of their own.
        `fleiss`: {annotators, n, kappa} of people and scorers over the pairs that all decide, or None.
        `calibration`: [{predicted, observed, low, high, n}] of g_hat (without it, of soft targets) against all
        decided human labels, and `brier`, its mean squared error.
        `truth`: label source -> as in `agreement`, against the sign of the true utility's difference; None unknown.
    """
    known = preferences(frame, scorers)
    target = labels["target"].cast(pl.Float64).to_numpy()
    final = np.sign(target - 0.5)
    g_hat = labels["g_hat"].cast(pl.Float64).to_numpy()
    hidden = frame["human"].is_not_null().to_numpy() & labels["human"].is_null().to_numpy()
    votes = {name: _signs(values) for name, values in known.items()}
    label = _signs(final)
    against = votes | ({HIDDEN: np.where(hidden, votes[HUMAN], np.int8(0))} if hidden.any() else {})
    soft = (target != 0) & (target != 0.5) & (target != 1)
    predicted = g_hat if not np.isnan(g_hat).all() else np.where(soft, target, np.nan)
    return {
        "labels": {
            "image_0": int((final > 0).sum()),
            "image_1": int((final < 0).sum()),
            "tied": int((final == 0).sum()),
            "soft": np.bincount(_bin(target), minlength=BINS).tolist(),
            "sources": dict(labels["source"].value_counts().sort("source").iter_rows()),
        },
        "vote_sums": [
            [float(value), n]
            for value, n in labels["vote_sum"].drop_nulls().value_counts().sort("vote_sum").iter_rows()
        ],
        "agreement": {name: _matches(label, values) for name, values in against.items()},
        "fleiss": fleiss(votes),
        **calibration(predicted, known[HUMAN]),
        "truth": _against_truth(frame, {"label": label, **votes, "g_hat": _signs(g_hat - 0.5)}, truth),
    }


def fleiss(votes: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Fleiss' kappa of annotators' votes (1, -1, 0 for an abstention) over the pairs that all of them decide.

    None where there is only one annotator or no such pair; kappa is None where all say the same everywhere.
    """
    annotators = len(votes)
    decided = np.logical_and.reduce([values != 0 for values in votes.values()])
    n = int(decided.sum())
    if annotators < 2 or not n:
        return None
    for_first = np.add.reduce([values > 0 for values in votes.values()], dtype=np.int64)
    pairs = np.bincount(for_first[decided], minlength=annotators + 1)
    first = np.arange(annotators + 1)
    second = annotators - first
    same = pairs * (first * (first - 1) + second * (second - 1))
    observed = float(same.sum() / (n * annotators * (annotators - 1)))
    share = float((pairs * first).sum() / (n * annotators))
    chance = share**2 + (1 - share) ** 2
    kappa = None if chance == 1 else (observed - chance) / (1 - chance)
    return {"annotators": list(votes), "n": n, "kappa": kappa}


def calibration(predicted: np.ndarray, human: np.ndarray) -> dict[str, Any]:
    """`calibration` and `brier` of `measure`: probabilities (NaN none) against decided human preferences."""
    judged = ~np.isnan(predicted) & ~np.isnan(human) & (human != 0)
    p, won = (predicted, human > 0) if judged.all() else (predicted[judged], human[judged] > 0)
    place = _bin(p)
    pairs, wins = np.bincount(place, minlength=BINS), np.bincount(place[won], minlength=BINS)
    total = np.bincount(place, p, minlength=BINS)
    bins = []
    for i in np.flatnonzero(pairs):
        n, won_here = int(pairs[i]), int(wins[i])
        low, high = wilson(won_here, n)
        mean = float(total[i]) / n
        bins.append({"predicted": mean, "observed": won_here / n, "low": low, "high": high, "n": n})
    return {"calibration": bins, "brier": float(np.mean((p - won) ** 2)) if len(p) else None}


def _bin(probability: np.ndarray) -> np.ndarray:
    """Which of BINS equal bins of [0, 1]."""
    return np.minimum((probability * BINS).astype(np.int64), BINS - 1)


def _signs(values: np.ndarray) -> np.ndarray:
    """1, -1 or 0, int8; 0 for NaN."""
    return (values > 0).astype(np.int8) - (values < 0).astype(np.int8)


def _matches(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """How often two columns of signs are equal, over the rows where neither is 0."""
    product = first * second
    agree = int((product > 0).sum())
    n = agree + int((product < 0).sum())
    low, high = wilson(agree, n)
    return {"n": n, "agree": agree, "rate": agree / n if n else None, "low": low, "high": high}


def _against_truth(
    frame: pl.DataFrame, sources: Mapping[str, np.ndarray], truth: pl.DataFrame | None
) -> dict[str, Any] | None:
    if truth is None:
        return None
    utility = []
    for side in ("image_0", "image_1"):
        keys = frame.select(pl.col(side).alias("image_uid"), "prompt_id")
        joined = keys.join(truth, on=["image_uid", "prompt_id"], how="left", maintain_order="left")
        utility.append(joined["utility"].cast(pl.Float64).to_numpy())
    better = _signs(utility[0] - utility[1])
    return {name: _matches(values, better) for name, values in sources.items() if values.any()}
