"""Injected label noise."""

from __future__ import annotations

import polars as pl

from pipeline_lib.labels.chance import share
from pipeline_lib.labels.steps import Flip

Dropped = dict[str, int]


def flip(frame: pl.DataFrame, step: Flip) -> tuple[pl.DataFrame, Dropped]:
    """Invert exactly round(rate * n) of the n labels that are not ties, and mark them in `flipped`.

    Inverts `target`, and with it `human` where the target is the human label (is_human), so that whatever a method
    reads is noisy. Before there is a target it inverts the human labels (an annotator whom all later steps believe).
    """
    early = frame["target"].null_count() == len(frame)
    column = "human" if early else "target"
    label = frame[column]
    chosen = share(frame["pair_id"], (label.is_not_null() & (label != 0.5)).to_numpy(), step.rate, step.seed, "flip")
    mask = pl.Series(chosen)
    inverted = pl.when(mask).then(1 - pl.col(column)).otherwise(column)
    human = inverted if early else pl.when("is_human").then(inverted).otherwise("human")
    target = pl.col("target") if early else inverted
    return frame.with_columns(
        human.alias("human"), target.alias("target"), (pl.col("flipped") ^ mask).alias("flipped")
    ), {}
