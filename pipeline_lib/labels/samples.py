"""Steps that keep a random part of the pairs: subsample, balance, split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from pipeline_lib.core.errors import LabelError
from pipeline_lib.labels.calibration import fold_of
from pipeline_lib.labels.chance import keys, share
from pipeline_lib.labels.groups import COLUMNS, GROUPS, check_group, group_of
from pipeline_lib.labels.steps import Dropped, Step, one_of, within


@dataclass(frozen=True)
class Subsample(Step):
    """Keep a random share of the pairs, exactly round(fraction * n) of n, or a number of them (all, if there are
    fewer). Under one seed the smaller sample is part of the larger."""

    name: ClassVar[str] = "subsample"
    main: ClassVar[str] = "fraction"
    fraction: float = 1.0
    pairs: int = 0
    seed: int = 0

    def check(self) -> None:
        within("fraction", self.fraction, 0, 1)
        if self.pairs < 0:
            raise LabelError(f"pairs={self.pairs} is negative.", "Give the number of pairs to keep.")
        if (self.fraction == 1) == (self.pairs == 0):
            raise LabelError(
                "it needs a fraction below 1 or a number of pairs, one of them.",
                "Write for example {subsample: 0.1} or {subsample: {pairs: 10000}}.",
            )

    def words(self) -> str:
        size = f"{self.pairs:,} pairs" if self.pairs else f"{self.fraction:.4g} of the pairs"
        return f"Keep {size}, drawn at random (seed {self.seed})."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        n = len(frame)
        fraction = min(self.pairs / n, 1.0) if self.pairs else self.fraction
        kept = frame.filter(share(frame["pair_id"], np.ones(n, bool), fraction, self.seed, "subsample"))
        return kept, {"not-drawn": n - len(kept)}


@dataclass(frozen=True)
class Balance(Step):
    """Keep equally many pairs of each group: as many as the smallest group has, or at most `at_most`, drawn at random.

    Groups: `label` (pairs that image_0 wins, pairs that image_1 wins; ties all stay), `prompt`, `user`, or `models`
    (the pair of generators, in either order).
    """

    name: ClassVar[str] = "balance"
    main: ClassVar[str] = "by"
    place: ClassVar[Literal["anywhere", "before", "after"]] = "after"
    by: str
    at_most: int = 0
    seed: int = 0

    def columns(self) -> list[str]:
        return list(COLUMNS.get(self.by, ()))

    def check(self) -> None:
        check_group("by", self.by)
        if self.at_most < 0:
            raise LabelError(f"at_most={self.at_most} is negative.", "Give the most pairs of a group to keep.")

    def words(self) -> str:
        size = f"at most {self.at_most:,}" if self.at_most else "as many as the smallest has"
        return f"Over {GROUPS[self.by]}, keep {size} of each, drawn at random (seed {self.seed})."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        key = pl.Series("_key", keys(frame["pair_id"], self.seed, "balance"))
        grouped = frame.with_columns(group_of(self.by).alias("_group"), key)
        tied = (pl.col("_group") == "") if self.by == "label" else pl.lit(False)
        sizes = grouped.filter(~tied).group_by("_group").len()["len"]
        most = self.at_most or (sizes.min() if len(sizes) else 0)
        if self.by == "label" and len(sizes) == 1 and not self.at_most:
            most = 0  # the other side has no pairs at all
        kept = grouped.filter(tied | (pl.col("_key").rank("ordinal").over("_group") <= most))
        return kept.drop("_group", "_key"), {"surplus": len(frame) - len(kept)}


@dataclass(frozen=True)
class Split(Step):
    """Cut the pairs into `folds` by prompt, and keep fold `fold` (`keep: fold`) or all others (`keep: others`).

    All pairs of a prompt are in one fold, the same as in the cross-fitting of pseudo_label and soft with this seed.
    """

    name: ClassVar[str] = "split"
    main: ClassVar[str] = "fold"
    fold: int
    folds: int = 5
    keep: str = "others"
    seed: int = 0

    def check(self) -> None:
        if self.folds < 2:
            raise LabelError(f"folds={self.folds} is less than 2.", "Cut the pairs into 2 folds or more.")
        if not 0 <= self.fold < self.folds:
            raise LabelError(f"fold={self.fold} is none of 0 to {self.folds - 1}.", "Folds are counted from 0.")
        one_of("keep", [self.keep], ("fold", "others"))

    def words(self) -> str:
        which = "fold" if self.keep == "fold" else "all but fold"
        return f"Cut prompts into {self.folds} folds at random (seed {self.seed}); keep {which} {self.fold}."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        mine = fold_of(frame["prompt_id"], self.folds, self.seed) == self.fold
        kept = frame.filter(mine if self.keep == "fold" else ~mine)
        return kept, {"other-fold" if self.keep == "fold" else "held-out": len(frame) - len(kept)}
