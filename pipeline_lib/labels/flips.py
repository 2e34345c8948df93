"""Step flip: injected label noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from pipeline_lib.core.errors import LabelError
from pipeline_lib.labels.chance import share, stratified_share
from pipeline_lib.labels.groups import COLUMNS, GROUPS, check_group, group_of
from pipeline_lib.labels.steps import Dropped, Step


@dataclass(frozen=True)
class Flip(Step):
    """Invert a random share of the labels that are not ties: of the targets, or, before there are any, of the human
    labels. `flipped` marks them, as a ground truth for diagnostics that no method may use.

    Exactly round(rate * n) of n labels are inverted. With `stratify` (prompt, user, models or label) the share is also
    rate in every stratum, within one pair; without, a smaller rate flips a part of what a larger one does.
    """

    name: ClassVar[str] = "flip"
    main: ClassVar[str] = "rate"
    rate: float
    seed: int = 0
    stratify: str = ""

    def columns(self) -> list[str]:
        return list(COLUMNS.get(self.stratify, ()))

    def check(self) -> None:
        if not 0 <= self.rate <= 1:
            raise LabelError(f"rate={self.rate:g} is not in [0, 1].", "Give the share to invert, such as 0.2.")
        if self.stratify:
            check_group("stratify", self.stratify)

    def words(self) -> str:
        strata = f", evenly over {GROUPS[self.stratify]}" if self.stratify else ""
        return f"{self.rate:.0%} of the labels that are not ties are inverted at random{strata} (seed {self.seed})."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        """Inverts `target`, and with it `human` where the target is the human label (is_human), so that whatever a
        method reads is noisy. Before there is a target it inverts the human labels (an annotator whom all later steps
        believe)."""
        early = frame["target"].null_count() == len(frame)
        column = "human" if early else "target"
        label = frame[column]
        among = (label.is_not_null() & (label != 0.5)).fill_null(False).to_numpy()
        if self.stratify:
            strata = frame.select(group_of(self.stratify, column).alias("stratum"))["stratum"]
            chosen = stratified_share(frame["pair_id"], among, strata, self.rate, self.seed, "flip")
        else:
            chosen = share(frame["pair_id"], among, self.rate, self.seed, "flip")
        mask = pl.Series(chosen)
        inverted = pl.when(mask).then(1 - pl.col(column)).otherwise(column)
        human = inverted if early else pl.when("is_human").then(inverted).otherwise("human")
        target = pl.col("target") if early else inverted
        return frame.with_columns(
            human.alias("human"), target.alias("target"), (pl.col("flipped") ^ mask).alias("flipped")
        ), {}
