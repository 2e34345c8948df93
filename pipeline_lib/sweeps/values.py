"""The values that a sweep measured, as tables of prompts by training seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline_lib.core.errors import EvaluationError
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.evaluation.statistics import Floats

WHOLE = ""
"""The unit of a measure that a model has as a whole: then only seeds are a sample."""


@dataclass(frozen=True)
class Values:
    """One setting's values of one measure; `values` is (units, seeds)."""

    units: tuple[str, ...]
    seeds: tuple[int, ...]
    values: Floats


def values_of(outcomes: pl.DataFrame, measure: str) -> dict[str, Values]:
    """The values of every setting that has the measure, by setting.

    Args:
        outcomes: columns setting, seed, measure, unit, value; one row for each.

    Raises:
        UnknownNameError: no setting has the measure.
        EvaluationError: settings or seeds were judged on different units, settings have different seeds, or a value is
            missing or not finite.
    """
    rows = outcomes.filter(pl.col("measure") == measure).sort("setting", "unit", "seed")
    if not rows.height:
        raise unknown_name("measure", measure, sorted(outcomes["measure"].unique()))
    found = {}
    for own in rows.partition_by("setting", maintain_order=True):
        name = str(own["setting"][0])
        every, seeds = own["unit"].to_list(), tuple(own["seed"].unique().sort())
        units = tuple(dict.fromkeys(every))
        values = own["value"].cast(pl.Float64).to_numpy()
        full = every == [unit for unit in units for _ in seeds] and own["seed"].to_list() == [*seeds] * len(units)
        if not full or not np.isfinite(values).all():
            raise EvaluationError(
                f"{measure} of {name}: {int(np.isfinite(values).sum())} finite values for {len(units)} units and "
                f"{len(seeds)} seeds.",
                "Judge every model on the same prompts or pairs.",
            )
        found[name] = Values(units, seeds, values.reshape(len(units), len(seeds)))
    first = next(iter(found))
    for name, one in found.items():
        if one.units != found[first].units:
            raise EvaluationError(
                f"{measure}: {first} and {name} were judged on different prompts or pairs "
                f"({len(found[first].units)} and {len(one.units)}).",
                "Judge every model on the same ones.",
            )
        if one.seeds != found[first].seeds:
            raise EvaluationError(
                f"{measure}: {first} has the training seeds {list(found[first].seeds)}, {name} {list(one.seeds)}.",
                "Train every setting with the same seeds.",
            )
    return found
