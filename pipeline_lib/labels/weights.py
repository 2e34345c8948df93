"""Step weight: how much each pair counts in the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from pipeline_lib.labels.steps import Dropped, Step, one_of

WEIGHTS = {
    "prompt": "1 / the number of pairs that its prompt has here",
    "confidence": "the confidence in its label",
}


@dataclass(frozen=True)
class Weight(Step):
    """Multiply the weight of each pair by a factor.

    `prompt`: 1 / pairs of its prompt, so that every prompt counts the same. `confidence`: how sure its label is, 1/2
    to 1: of a vote, the share of the voters' weights behind the winner, abstentions and ties counting half; else the
    probability of the more probable winner. `normalise` scales the weights to a mean of 1, which keeps the learning
    rate's meaning.
    """

    name: ClassVar[str] = "weight"
    main: ClassVar[str] = "by"
    place: ClassVar[Literal["anywhere", "before", "after"]] = "after"
    by: str
    normalise: bool = False

    def check(self) -> None:
        one_of("by", [self.by], list(WEIGHTS))

    def words(self) -> str:
        return f"Weight each pair by {WEIGHTS[self.by]}{', then scale the mean weight to 1' * self.normalise}."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        if self.by == "prompt":
            factor = 1 / pl.len().over("prompt_id")
        else:
            factor = pl.coalesce("confidence", pl.max_horizontal(pl.col("target"), 1 - pl.col("target")))
        weight = pl.col("weight").cast(pl.Float64) * factor.cast(pl.Float64)
        if self.normalise:
            weight = weight / weight.mean()
        return frame.with_columns(weight.cast(pl.Float32).alias("weight")), {}
