"""Effects with intervals from models that were trained with several seeds and judged on the same prompts.

A setting k has the value y[k, p, s] for prompt p and training seed s: its mean, plus what the prompt adds, plus what
the seed adds, plus a rest. Prompts and seeds are both a sample of those there might be, and every model is judged on
every prompt, so with z[p, s] = sum_k w[k] * y[k, p, s], of P prompts and S seeds, the effect mean(z) has the variance
(Cornfield and Tukey 1956; Barr et al. 2013 on why prompts and seeds both belong in)

    V = V_prompts + V_seeds - V_rest

- V_prompts: variance over prompts of z's means over seeds, / P.
- V_seeds: variance over seeds of z's means over prompts, / S. Three seeds say little of it, so it is not taken below
  what the seeds of all the sweep's settings say together: a seed is taken to add something to all settings alike, C,
  and something to each, D, with one variance for all settings. Both are estimated from the table of settings by seeds
  (two-way analysis of variance); C counts (sum of w)^2, so not in a difference, and D counts the sum of w^2.
- V_rest: mean square of what is neither the prompt's nor the seed's in z, / (P * S): both of the above contain it.

V is never taken below the larger of V_prompts and V_seeds. The interval is Student's with the degrees of freedom of
Satterthwaite 1946. In simulations (tests/pipeline_lib/sweeps/test_coverage.py) it holds the truth in 94% to 98% of
sweeps; in 93% if there are only two settings; and, where seeds matter more than prompts, in 88% if the seeds of one
setting vary twice as much as those of the others (standard deviation), in 86% if three times as much. Negated weights
give the negated estimate to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from pipeline_lib.core.config import require
from pipeline_lib.core.errors import EvaluationError
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.evaluation.significance import holm
from pipeline_lib.evaluation.statistics import CONFIDENCE, Floats
from pipeline_lib.sweeps.measures import measure_of
from pipeline_lib.sweeps.values import WHOLE, Values, values_of

STATISTICS = {
    "interval": "95% intervals by Student's t, of a model in which prompts and training seeds are both samples; "
    "what seeds add is estimated from all settings together, the degrees of freedom are Satterthwaite's.",
    "against": "Differences from the reference on the same prompts; p-values are two-sided, and Holm-corrected over "
    "the settings for each measure.",
}
"""What a report says about its numbers."""


@dataclass(frozen=True)
class Estimate:
    """An effect with its 95% interval, and how likely so large a distance from `null` is by chance (two-sided)."""

    point: float
    low: float
    high: float
    standard_error: float
    df: float
    p: float
    null: float

    @property
    def interval(self) -> list[float]:
        """Point, low, high: as reports have it."""
        return [self.point, self.low, self.high]


def contrast(outcomes: pl.DataFrame, measure: str, weights: Mapping[str, float], null: float = 0.0) -> Estimate:
    """The effect sum_k weights[k] * mean of setting k.

    Raises:
        UnknownNameError: no such measure or setting.
        ConfigError: the weights are all 0, or there is only one seed.
        EvaluationError: settings or seeds were judged on different units, settings have different seeds, or a value is
            missing or not finite.
    """
    return estimate(values_of(outcomes, measure), measure, weights, null)


def estimate(settings: Mapping[str, Values], measure: str, weights: Mapping[str, float], null: float) -> Estimate:
    """`contrast` from the values of all settings of the sweep."""
    for name in weights:
        if name not in settings:
            raise unknown_name(f"setting with {measure},", name, sorted(settings))
    used = {name: float(weights[name]) for name in sorted(weights) if weights[name]}
    require(
        bool(used) and all(math.isfinite(w) for w in used.values()),
        f"{measure}: the weights are {dict(weights)}.",
        "Give finite numbers of which at least one is not 0.",
    )
    first = next(iter(settings.values()))
    units, seeds = first.values.shape
    require(
        seeds > 1,
        f"{measure}: every setting has one training seed, which cannot say how much seeds matter.",
        "Train every setting with at least 2 seeds; claims need 3.",
    )
    point = math.fsum(w * float(settings[name].values.mean()) for name, w in used.items())
    combined: Floats = np.sum([w * settings[name].values for name, w in used.items()], axis=0)
    by_seeds, seeds_df = _seeds(np.stack([one.values.mean(axis=0) for one in settings.values()]), list(used.values()))
    by_seeds = max(by_seeds, float(np.var(combined.mean(axis=0), ddof=1)) / seeds)
    if first.units == (WHOLE,):
        return _student(point, by_seeds, seeds_df, null)
    if units < 2:
        raise EvaluationError(f"{measure} has a single prompt or pair.", "Judge the models on two or more.")

    by_units = float(np.var(combined.mean(axis=1), ddof=1)) / units
    left = combined - combined.mean(axis=1, keepdims=True)
    left = left - left.mean(axis=0)
    rest_df = (units - 1) * (seeds - 1)
    rest = float(np.sum(left**2)) / rest_df / (units * seeds)
    variance = max(by_units + by_seeds - rest, by_units, by_seeds)
    below = by_units**2 / (units - 1) + by_seeds**2 / seeds_df + rest**2 / rest_df
    return _student(point, variance, variance**2 / below if below else seeds_df, null)


def settings_table(
    outcomes: pl.DataFrame, measures: Sequence[str], reference: str | None = None
) -> dict[str, dict[str, Any]]:
    """Every setting's estimates and, for all but the reference, differences from it: as report.json has them.

    A setting that lacks a measure, such as a training metric of another method, is left out of it. Without a reference
    there are no differences.

    Returns:
        setting -> {"estimates": {measure: {"interval": [point, low, high], "by_seed": {seed: mean}}}, "against":
        {measure: {"difference": [point, low, high], "p": ..., "p_holm": ...}} or None}.

    Raises:
        UnknownNameError, ConfigError, EvaluationError: as `contrast`.
    """
    names = sorted(outcomes["setting"].unique())
    if reference is not None and reference not in names:
        raise unknown_name("reference", reference, names)
    table: dict[str, dict[str, Any]] = {
        name: {"estimates": {}, "against": None if reference in (None, name) else {}} for name in names
    }
    for measure in measures:
        found, about = values_of(outcomes, measure), measure_of(measure)
        for name, one in found.items():
            means = one.values.mean(axis=0)
            interval = estimate(found, measure, {name: 1.0}, about.null).interval
            table[name]["estimates"][measure] = {
                # What a share cannot be is no part of its interval.
                "interval": [min(max(end, 0.0), 1.0) for end in interval] if about.share else interval,
                "by_seed": {str(seed): float(mean) for seed, mean in zip(one.seeds, means, strict=True)},
            }
        if reference not in found:
            continue
        others = [name for name in found if name != reference]
        differences = [estimate(found, measure, {name: 1.0, str(reference): -1.0}, 0.0) for name in others]
        corrected = holm([one.p for one in differences])
        for name, difference, p_holm in zip(others, differences, corrected, strict=True):
            table[name]["against"][measure] = {
                "difference": difference.interval,
                "p": difference.p,
                "p_holm": p_holm,
            }
    return table


def _seeds(means: Floats, weights: Sequence[float]) -> tuple[float, float]:
    """The seeds' variance of an effect, from the means (settings, seeds) of all settings; its degrees of freedom."""
    count, seeds = means.shape
    centred = means - means.mean(axis=1, keepdims=True)
    alike = centred.mean(axis=0)
    alike_square = count * float(np.sum(alike**2)) / (seeds - 1)
    apart_df = (count - 1) * (seeds - 1)
    apart_square = float(np.sum((centred - alike) ** 2)) / apart_df if apart_df else 0.0
    total = math.fsum(weights)
    # Never negative: the sum of k squares is at least the square of the sum over k.
    apart = max(0.0, math.fsum(w * w for w in weights) - total * total / count) / seeds * apart_square
    together = total * total / count / seeds * alike_square
    below = (apart**2 / apart_df if apart_df else 0.0) + together**2 / (seeds - 1)
    return apart + together, (apart + together) ** 2 / below if below else float(max(apart_df, seeds - 1))


def _student(point: float, variance: float, df: float, null: float) -> Estimate:
    """Without any variance the interval is the point; p is then 1 at `null` and 0 elsewhere."""
    from scipy.stats import t

    error = math.sqrt(variance)
    if not error:
        return Estimate(point, point, point, 0.0, float(df), float(point == null), null)
    half = float(t.ppf(1.0 - (1.0 - CONFIDENCE) / 2, df)) * error
    p = min(1.0, 2.0 * float(t.sf(abs(point - null) / error, df)))
    return Estimate(point, point - half, point + half, error, float(df), p, null)
