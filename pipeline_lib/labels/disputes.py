"""The pairs about which the annotators of a recipe disagree most."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline_lib.core.store import Dataset
from pipeline_lib.labels.table import scale
from pipeline_lib.reports.disputes import Dispute, most_disputed

SHOWN = 8
CANDIDATES = 50 * SHOWN
"""Pairs among which they are found: sorting a million for eight would take longer than labelling them."""


def disputes_of(pairs: Dataset, frame: pl.DataFrame, labels: pl.DataFrame, scorers: Sequence[str]) -> list[Dispute]:
    """The SHOWN most disputed pairs with the label as -1..1 and every scorer's margin.

    An annotator's margin is its score difference in units of the root mean square over the pairs, and 1 for a person's
    decision. The dispute is the sum of margins on the side of the pair that has less of it.

    Args:
        frame, labels, scorers: as for `measures.measure`.
    """
    human = (2 * (pl.col("human").cast(pl.Float64) - 0.5)).fill_null(0.0)
    margins = {name: pl.col(f"d_{name}") / scale(frame, name) for name in scorers}
    held = [human, *(margin.fill_null(0.0) for margin in margins.values())]
    positive = pl.sum_horizontal(pl.max_horizontal(margin, 0.0) for margin in held)
    negative = pl.sum_horizontal(pl.max_horizontal(-margin, 0.0) for margin in held)
    ranks = frame.select("pair_id", pl.min_horizontal(positive, negative).alias("dispute")).with_row_index("row")
    high = ranks.filter(pl.col("dispute") > 0, pl.col("dispute") >= pl.col("dispute").top_k(CANDIDATES).min())
    top = high.top_k(CANDIDATES, by=["dispute", "pair_id"], reverse=[False, True])  # with few scorers many are equal
    label = pl.lit(2 * labels["target"][top["row"]] - 1).alias("label")
    candidates = frame[top["row"]].select(
        "pair_id", "prompt_id", "image_0", "image_1", "human",
        top["dispute"],
        pl.struct(label, *(margin.alias(name) for name, margin in margins.items())).alias("votes"),
    )  # fmt: skip
    return most_disputed(pairs, candidates, SHOWN)
