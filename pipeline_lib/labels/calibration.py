"""From evidence to probabilities, fitted on human labels: Platt scaling and isotonic regression, cross-fitted.

Which image is called 0 means nothing, so every map is odd: p(-x) = 1 - p(x).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import polars as pl

from pipeline_lib.core.errors import LabelError
from pipeline_lib.labels.chance import keys

Map: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Evidence -> probability that image_0 wins."""


SAMPLE = 10_000
"""Labels whose slope the search starts from; it ends at that of all of them."""


def platt(x: np.ndarray, z: np.ndarray) -> Map:
    """sigmoid(slope * x), the slope of greatest likelihood; without intercept."""
    slope = platt_slope(x, z)
    return lambda evidence: sigmoid(slope * evidence)


def isotonic(x: np.ndarray, z: np.ndarray) -> Map:
    """The non-decreasing odd map of least squares, linear between the evidence it was fitted on.

    Each pair is fitted twice, as (x, z) and as (-x, 1 - z). Raw means of blocks reach 0 and 1 where the evidence was
    always right; they are pulled towards 1/2 as Platt's labels are, n / (n + 2) of the way for n labels.
    """
    from scipy.optimize import isotonic_regression  # slow to import, and a bad recipe is to fail at once

    n = len(x)
    points, place = np.unique(np.concatenate([x, -x]), return_inverse=True)
    count = np.bincount(place)
    mean = np.bincount(place, np.concatenate([z, 1 - z])) / count
    fitted = isotonic_regression(mean, weights=count).x
    fitted = 0.5 + (fitted - fitted[::-1]) / 2 * n / (n + 2)  # odd to the last bit
    return lambda evidence: np.interp(evidence, points, fitted)


FITS: dict[str, Callable[[np.ndarray, np.ndarray], Map]] = {"platt": platt, "isotonic": isotonic}
"""Calibration -> fit on evidence x [n] and labels z [n] (1, 0, or 0.5 for ties), n > 0."""


def cross_fitted(
    x: np.ndarray, human: np.ndarray, groups: pl.Series, folds: int, seed: int, calibration: str = "platt"
) -> np.ndarray:
    """Calibrated probabilities float64[n] of evidence `x`, by maps fitted on other groups' labels (NaN: none).

    Groups fall into folds at random, and every row of a fold, labelled or not, is judged by the map fitted on the
    labelled rows of the other folds. Labelled and unlabelled rows of a fold so share one annotator that has not seen
    the fold's labels, which is what makes the DeDPO loss unbiased.

    Raises:
        LabelError: fewer than two folds have labels.
    """
    fold = fold_of(groups, folds, seed)
    labelled = np.flatnonzero(~np.isnan(human))
    fold_labelled, x_labelled, z = fold[labelled], x[labelled], human[labelled]
    out = np.empty(len(x))

    def judge(k: int) -> None:
        mine, others = np.flatnonzero(fold == k), np.flatnonzero(fold_labelled != k)
        if len(mine) and not len(others):
            raise LabelError(
                f"no revealed human label outside fold {k + 1} of {folds} to calibrate it on.",
                "Reveal more labels, use prompts of more kinds, or set calibrate: none.",
            )
        if len(mine):
            out[mine] = FITS[calibration](x_labelled[others], z[others])(x[mine])

    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:  # NumPy lets threads run beside each other
        list(pool.map(judge, range(folds)))
    return out


def fold_of(groups: pl.Series, folds: int, seed: int) -> np.ndarray:
    """The fold 0 .. folds - 1 of each row: equal groups (prompts) share one. uint64 [n]."""
    runs = groups.rle().struct.unnest()  # rows of a prompt mostly follow each other
    return np.repeat(keys(runs["value"], seed, "folds") % np.uint64(folds), runs["len"].to_numpy())


def platt_slope(x: np.ndarray, z: np.ndarray) -> float:
    """The slope of P(image_0 wins) = sigmoid(slope * x) of greatest likelihood for labels z (1, 0, or 0.5 for ties).

    The evidence x must be of order 1: the search ends at slopes of 100.

    Labels are pulled towards 1/2 as in Platt (1999), (n + 1) / (n + 2) instead of 1, which keeps the slope finite
    when the evidence is always right. 0 when all evidence is zero. May be negative.
    """
    n = len(x)
    target = 0.5 + (z - 0.5) * n / (n + 2)
    every = n // SAMPLE
    slope = platt_slope(x[::every], z[::every]) if every > 1 else 0.0
    low, high = -np.inf, np.inf
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
