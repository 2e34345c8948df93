"""Step oracle: a synthetic annotator of a known accuracy, for studies of DeDPO over annotator quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from pipeline_lib.core.errors import LabelError
from pipeline_lib.labels.chance import share
from pipeline_lib.labels.steps import G_HAT, HUMAN, Dropped, Step


@dataclass(frozen=True)
class Oracle(Step):
    """A synthetic annotator made from the human labels themselves: g_hat is the human label of exactly
    round(accuracy * n) of the n pairs that people decided, and its opposite for the others, at random.

    1 is perfect, 0.5 a coin, 0 always wrong. Under one seed what a less accurate one has right a more accurate one has
    right, too. A human tie has g_hat 0.5. With `calibrated` g_hat is not 1 or 0 but how sure the
    annotator may be: its accuracy for the image it prefers.

    It reads the human labels of all pairs, so it stands before `reveal` hides them; which labels `reveal` shows has
    nothing to do with which of them it has right, so DeDPO's correction is unbiased.
    """

    name: ClassVar[str] = "oracle"
    main: ClassVar[str] = "accuracy"
    place: ClassVar[Literal["anywhere", "before", "after"]] = "before"
    sets: ClassVar[frozenset[str]] = frozenset({G_HAT})
    needs_all: ClassVar[frozenset[str]] = frozenset({HUMAN})
    accuracy: float
    seed: int = 0
    calibrated: bool = False

    def check(self) -> None:
        if not 0 <= self.accuracy <= 1:
            raise LabelError(
                f"accuracy={self.accuracy:g} is not in [0, 1].", "Give the share of pairs to have right, such as 0.9."
            )
        if self.calibrated and self.accuracy < 0.5:
            raise LabelError(
                f"calibrated with accuracy={self.accuracy:g}: who knows to be wrong would say the opposite.",
                "Set an accuracy of 0.5 or more, or leave calibrated out.",
            )

    def words(self) -> str:
        sure = f", held {self.accuracy:.4g} probable" if self.calibrated else ""
        return (
            f"The synthetic annotator g_hat is made from the human labels: right about {self.accuracy:.4g} of them, "
            f"drawn at random (seed {self.seed}), wrong about the others{sure}; pairs without one are dropped."
        )

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        kept = frame.filter(pl.col("human").is_not_null())
        decided = (kept["human"] != 0.5).to_numpy()
        right = pl.Series(share(kept["pair_id"], decided, self.accuracy, self.seed, "oracle"))
        says = pl.when(right | (pl.col("human") == 0.5)).then("human").otherwise(1 - pl.col("human"))
        sure = self.accuracy if self.calibrated else 1.0
        g_hat = (0.5 + (says - 0.5) * (2 * sure - 1)).cast(pl.Float32)
        return kept.with_columns(g_hat.alias("g_hat")), {"unlabelled": len(frame) - len(kept)}
