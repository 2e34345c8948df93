"""Injected label noise."""

from __future__ import annotations

import polars as pl

from pipeline_lib.labels.chance import share
from pipeline_lib.labels.steps import Flip

Dropped = dict[str, int]


def flip(frame: pl.DataFrame, step: Flip) -> tuple[pl.DataFrame, Dropped]:
    """Invert exactly round(rate * n) of the n labels that are not ties, and mark them in `flipped`.

    Inverts `target`, and leaves `human` as it was; before there is a target it inverts the human labels themselves
    (a noisy annotator, whom all later steps believe).
    """
    column = "human" if frame["target"].null_count() == len(frame) else "target"
    label = frame[column]
    chosen = share(frame["pair_id"], (label.is_not_null() & (label != 0.5)).to_numpy(), step.rate, step.seed, "flip")
    mask = pl.Series(chosen)
    inverted = pl.when(mask).then(1 - pl.col(column)).otherwise(column)
    return frame.with_columns(inverted.alias(column), (pl.col("flipped") ^ mask).alias("flipped")), {}
