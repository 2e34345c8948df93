"""Steps for partly labelled pairs: reveal, pseudo_label, dedpo, mix (DeDPO, arXiv 2602.06195)."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline_lib.errors import LabelError
from pipeline_lib.labels.chance import keys, share
from pipeline_lib.labels.steps import HUMAN, PseudoLabel, Reveal
from pipeline_lib.labels.table import standardised, vote_of

Dropped = dict[str, int]


def reveal(frame: pl.DataFrame, step: Reveal) -> tuple[pl.DataFrame, Dropped]:
    """Null `human` for all but exactly round(fraction * n) of the n labelled pairs."""
    labelled = frame["human"].is_not_null().to_numpy()
    shown = share(frame["pair_id"], labelled, step.fraction, step.seed, "reveal")
    return frame.with_columns(pl.when(pl.Series(shown)).then("human").alias("human")), {}


def pseudo_label(frame: pl.DataFrame, step: PseudoLabel) -> tuple[pl.DataFrame, Dropped]:
    """Column `g_hat`, for all pairs.

    Cross-fitting: prompts fall into folds at random, and the g_hat of every pair of a fold, labelled or not, uses the
    slope fitted on the revealed pairs of the other folds. Labelled and unlabelled pairs of a fold so share one
    annotator that has not seen the fold's labels, which is what makes the DeDPO loss unbiased.

    Raises:
        LabelError: fewer than two folds have revealed labels.
    """
    if len(step.of) == 1:
        evidence = standardised(frame, step.of[0])
    else:
        evidence = pl.mean_horizontal(vote_of(scorer).cast(pl.Float64) for scorer in step.of)
    x = frame.select(evidence.alias("x"))["x"].to_numpy()
    if step.calibrate == "none":
        g_hat = (np.sign(x) + 1) / 2
    else:
        g_hat = cross_fitted(x, frame["human"].to_numpy(), frame["prompt_id"], step.folds, step.seed)
    return frame.with_columns(pl.Series("g_hat", g_hat, pl.Float32)), {}


def cross_fitted(x: np.ndarray, human: np.ndarray, groups: pl.Series, folds: int, seed: int) -> np.ndarray:
    """Calibrated probabilities float64[n] of evidence `x`, by slopes fitted on other groups' labels (NaN: none)."""
    fold = keys(groups, seed, "folds") % folds
    labelled = ~np.isnan(human)
    out = np.empty(len(x))
    for k in range(folds):
        mine, others = fold == k, labelled & (fold != k)
        if mine.any() and not others.any():
            raise LabelError(
                f"pseudo_label: no revealed human label outside fold {k + 1} of {folds} to calibrate it on.",
                "Reveal more labels, use prompts of more kinds, or set calibrate: none.",
            )
        out[mine] = sigmoid(platt_slope(x[others], human[others]) * x[mine])
    return out


def platt_slope(x: np.ndarray, z: np.ndarray) -> float:
    """The slope of P(image_0 wins) = sigmoid(slope * x) of greatest likelihood for labels z (1, 0, or 0.5 for ties).

    The evidence x must be of order 1: the search ends at slopes of 100.

    Labels are pulled towards 1/2 as in Platt (1999), (n + 1) / (n + 2) instead of 1, which keeps the slope finite
    when the evidence is always right. 0 when all evidence is zero. May be negative.
    """
    n = len(x)
    target = 0.5 + (z - 0.5) * n / (n + 2)
    slope, low, high = 0.0, -np.inf, np.inf
    for _ in range(100):  # Newton; the gradient grows with the slope, so its sign brackets the root
        p = sigmoid(slope * x)
        gradient, curvature = float(np.sum(x * (p - target))), float(np.sum(x * x * p * (1 - p)))
        if gradient == 0 or curvature == 0:
            break
        low, high = (slope, high) if gradient < 0 else (low, slope)
        step = float(np.clip(gradient / curvature, -1.0, 1.0))
        if abs(step) < 1e-9:
            break
        inside = low < slope - step < high
        slope = slope - step if inside else (low + high) / 2
    return slope


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def dedpo(frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
    """Target = human label where revealed (is_human), g_hat elsewhere.

    Raises:
        LabelError: no human label is left for the correction term.
    """
    _require_labelled(frame, "dedpo")
    known = pl.col("human").is_not_null()
    return frame.with_columns(
        pl.coalesce("human", "g_hat").alias("target"),
        known.alias("is_human"),
        pl.when(known).then(pl.lit(HUMAN)).otherwise(pl.lit("g_hat")).alias("source"),
    ), {}


def mix(frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
    """Target = human label where revealed, elsewhere 1 or 0 as g_hat is above or below 0.5; pairs at 0.5 drop out."""
    _require_labelled(frame, "mix")
    known = pl.col("human").is_not_null()
    kept = frame.filter(known | (pl.col("g_hat") != 0.5)).with_columns(
        pl.coalesce("human", (pl.col("g_hat") > 0.5).cast(pl.Float32)).alias("target"),
        known.alias("is_human"),
        pl.when(known).then(pl.lit(HUMAN)).otherwise(pl.lit("g_hat")).alias("source"),
    )
    return kept, {"undecided": len(frame) - len(kept)}


def _require_labelled(frame: pl.DataFrame, step: str) -> None:
    if not frame["human"].count():
        raise LabelError(
            f"{step}: none of the {len(frame)} pairs has a revealed human label.", "Raise reveal's fraction."
        )
