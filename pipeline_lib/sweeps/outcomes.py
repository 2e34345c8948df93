"""What the models of a sweep achieved, prompt by prompt: the table that all estimates and verdicts are made from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline_lib.core.errors import EvaluationError
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.core.store import Dataset
from pipeline_lib.evaluation.diversity import DIVERSITY
from pipeline_lib.evaluation.statistics import Floats
from pipeline_lib.evaluation.winrates import outcomes as row_outcomes
from pipeline_lib.sweeps.measures import AVERAGE, QUALITY, TRUE, Measure

SCHEMA = pl.Schema(
    {"setting": pl.String, "seed": pl.Int64, "measure": pl.String, "unit": pl.String, "value": pl.Float32}
)
"""`seed` is the training seed; `unit` a prompt id, or empty for what is measured once per model."""
Values = Mapping[str, float]
"""Unit -> value."""


@dataclass(frozen=True)
class Scores:
    """The verdicts on one model's images. Row i is one (prompt, image seed), the same for every model of a sweep.

    Attributes:
        prompts: prompt id of each row.
        by: scorer -> scores (n,); `true` among them where the truth is known.
        diversity: mean distance (n,) of each image from the others of its prompt; None with one image per prompt.
    """

    prompts: Sequence[str]
    by: Mapping[str, Floats]
    diversity: Floats | None = None


def read_scores(scores: Dataset, columns: Mapping[str, str], kept: Collection[str]) -> Scores:
    """Scores from a dataset of stage "image-scores".

    Args:
        columns: scorer -> its column.
        kept: ids of the prompts to take.
    """
    frame = scores.scan().filter(pl.col("prompt_id").is_in(list(kept))).sort("prompt_id", "seed").collect()
    known = {**columns, **({TRUE: TRUE} if TRUE in frame.columns else {})}
    by = {name: frame[column].cast(pl.Float64).to_numpy() for name, column in known.items()}
    spread = frame[DIVERSITY].cast(pl.Float64).to_numpy() if DIVERSITY in frame.columns else None
    return Scores(frame["prompt_id"].to_list(), by, spread)


def judged(model: Scores, base: Scores, measures: Iterable[Measure], tie_spread: float) -> dict[str, Values]:
    """`win/...`, `gain/...` and `diversity` among the measures: measure -> prompt id -> value.

    A prompt's value is the mean over its image seeds. A win is 1, a tie 0.5 (`winrates.outcomes`); a gain is the
    model's score less the base's, over the standard deviation of all the base's scores (1 where these are all equal).

    Raises:
        EvaluationError: the two were judged on different rows, or there is one image per prompt and no diversity.
        UnknownNameError: no such judge.
    """
    if list(model.prompts) != list(base.prompts):
        raise EvaluationError(
            f"A model has {len(model.prompts)} scores and its base {len(base.prompts)}, or of other prompts.",
            "Paint and judge both with the same prompts and seeds.",
        )
    ids, index = np.unique(np.asarray(model.prompts), return_inverse=True)
    names = ids.tolist()

    def of(values: Floats) -> Floats:
        return np.bincount(index, weights=values) / np.bincount(index)

    found: dict[str, dict[str, Floats]] = {
        "win": {name: of(0.5 + row_outcomes(ours, base.by[name], tie_spread)) for name, ours in model.by.items()},
        "gain": {name: of((ours - base.by[name]) / _spread(base.by[name])) for name, ours in model.by.items()},
    }
    for by_judge in found.values():
        scorers = [values for name, values in by_judge.items() if name != TRUE]
        if scorers:
            by_judge[AVERAGE] = np.mean(scorers, axis=0)
        by_judge[QUALITY] = by_judge[TRUE] if TRUE in by_judge else by_judge[AVERAGE]
    values: dict[str, Values] = {}
    for measure in measures:
        if measure.kind in found:
            by_judge = found[measure.kind]
            if measure.of not in by_judge:
                raise unknown_name(f"judge in the measure {measure.name!r},", measure.of, sorted(by_judge))
            values[measure.name] = dict(zip(names, by_judge[measure.of].tolist(), strict=True))
        elif measure.kind == "diversity":
            if model.diversity is None or base.diversity is None:
                raise EvaluationError(
                    "Diversity was not measured: every prompt has one image.",
                    "Give two image seeds or more, and a scorer with an image tower.",
                )
            values[measure.name] = dict(zip(names, of(model.diversity - base.diversity).tolist(), strict=True))
    return values


def table(rows: Iterable[tuple[str, int, Mapping[str, Values]]]) -> pl.DataFrame:
    """(setting, training seed, measure -> unit -> value) as a frame of SCHEMA, sorted."""
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA}
    for setting, seed, by_measure in rows:
        for measure, values in by_measure.items():
            for unit, value in values.items():
                for name, item in zip(SCHEMA, (setting, seed, measure, unit, value), strict=True):
                    columns[name].append(item)
    return pl.DataFrame(columns, schema=SCHEMA).sort("setting", "seed", "measure", "unit")


def _spread(scores: NDArray[np.float64]) -> float:
    return float(np.std(scores)) or 1.0
