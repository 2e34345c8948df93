"""What a sweep measures of a model beside its images: how its training went, and what its labels were."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.lineage import store_of
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.sweeps.measures import AGREEMENT, Measure
from pipeline_lib.sweeps.outcomes import Values
from pipeline_lib.training.launch.job import read_metrics

WHOLE = ""
"""The unit of what is measured once per model."""
HUMAN = "human"


def made_from(model: Dataset, stage: str) -> Dataset:
    """The input of a model, or of an input of its, that a stage wrote.

    Raises:
        ConfigError: it has none.
        DatasetUnfinishedError: that is no longer in the store.
    """
    for source in model.inputs:
        if source["uri"].partition("/")[0] == stage:
            return open_dataset(f"{store_of(model)}/{source['uri']}")
    raise ConfigError(f"{model.uri} was not made from a dataset of stage {stage}.", "Train it with this pipeline.")


def trained(model: Dataset, measures: Iterable[Measure]) -> dict[str, Values]:
    """`train/<metric>` among the measures: the metric's mean over the second half of the steps. A run without the
    metric has none."""
    wanted = [measure for measure in measures if measure.kind == "train"]
    records = read_metrics(model) if wanted else []
    half = records[-1]["step"] / 2 if records else 0
    late = [record for record in records if record["step"] > half]
    found: dict[str, Values] = {}
    for measure in wanted:
        values = [float(record[measure.of]) for record in late if record.get(measure.of) is not None]
        if values:
            found[measure.name] = {WHOLE: float(np.mean(values))}
    return found


def labelled(labels: Dataset, measures: Iterable[Measure]) -> dict[str, Values]:
    """`labels/<count>` and `labels/agreement/<voter>` among the measures.

    A count of the manifest is given as a share of the pairs kept. Agreement is over the pairs that the label and the
    voter both decide. Labels without the count, or without that voter, have none.
    """
    found: dict[str, Values] = {}
    for measure in (measure for measure in measures if measure.kind == "labels"):
        if measure.of.startswith(AGREEMENT):
            share = _agreement(labels, measure.of.removeprefix(AGREEMENT))
            if share is not None:
                found[measure.name] = {WHOLE: share}
        elif measure.of in labels.counts:
            found[measure.name] = {WHOLE: labels.counts[measure.of] / labels.counts["kept"]}
    return found


def _agreement(labels: Dataset, voter: str) -> float | None:
    rows, column = labels.scan(), f"vote_{voter}"
    if column in rows.collect_schema().names():
        vote = pl.col(column).cast(pl.Float64)
    elif voter == HUMAN:
        vote = pl.col(HUMAN).cast(pl.Float64) - 0.5
    else:
        return None
    product = (pl.col("target").cast(pl.Float64) - 0.5).sign() * vote.sign()
    same, other = rows.select((product > 0).sum().alias("same"), (product < 0).sum().alias("other")).collect().row(0)
    return same / (same + other) if same + other else None
