"""Steps for partly labelled pairs: reveal, pseudo_label, soft, dedpo, mix (DeDPO, arXiv 2602.06195)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from pipeline_lib.core.errors import LabelError
from pipeline_lib.labels.calibration import FITS, cross_fitted, sigmoid
from pipeline_lib.labels.chance import share
from pipeline_lib.labels.steps import (
    G_HAT,
    HUMAN,
    SELF_TRAINING,
    TARGET,
    Dropped,
    Step,
    listed,
    named_once,
    one_of,
    within,
)
from pipeline_lib.labels.table import standardised, vote_of

LOGIT = "logit"


@dataclass(frozen=True)
class Reveal(Step):
    """Keep the human labels of a random share, exactly round(fraction * n), of the n labelled pairs, and hide the
    others from all later steps."""

    name: ClassVar[str] = "reveal"
    main: ClassVar[str] = "fraction"
    place: ClassVar[Literal["anywhere", "before", "after"]] = "before"
    hides: ClassVar[frozenset[str]] = frozenset({HUMAN})
    fraction: float
    seed: int = 0

    def check(self) -> None:
        within("fraction", self.fraction, 0, 1)

    def words(self) -> str:
        return f"Reveal the human label of {self.fraction:.4g} of the labelled pairs, at random (seed {self.seed})."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        labelled = frame["human"].is_not_null().to_numpy()
        shown = share(frame["pair_id"], labelled, self.fraction, self.seed, "reveal")
        return frame.with_columns(pl.when(pl.Series(shown)).then("human").alias("human")), {}


@dataclass(frozen=True)
class Judge(Step):
    """Base of the steps that turn evidence into the probability that image_0 wins.

    `platt` and `isotonic` fit the map to the revealed human labels, cross-fitted over `folds` groups of prompts, so
    that no pair's probability depends on its own label or its prompt's (`calibration.cross_fitted`). `logit` takes
    a score difference for log-odds: sigmoid(scale * difference), nothing fitted.
    """

    from_: tuple[str, ...]
    calibrate: str = "auto"
    folds: int = 5
    seed: int = 0
    scale: float = 1.0

    main: ClassVar[str] = "from"
    others: ClassVar[tuple[str, ...]] = ()
    """Calibrations of the subclass beside these."""

    @property
    def calibration(self) -> str:
        """`calibrate`; auto is `logit` for self-training, whose scores are log-odds, else `platt`."""
        if self.calibrate != "auto":
            return self.calibrate
        return LOGIT if self.from_ == (SELF_TRAINING,) else "platt"

    def scorers(self) -> list[str]:
        return list(self.from_)

    def check(self) -> None:
        named_once("scorer", self.from_)
        if HUMAN in self.from_:
            raise LabelError(
                "human labels cannot be their own synthetic annotator.", "Name scorers; reveal keeps human labels."
            )
        one_of("calibrate", [self.calibration], [*FITS, LOGIT, *self.others])
        if self.folds < 2:
            raise LabelError(f"folds={self.folds} is less than 2.", "Cross-fitting needs 2 folds or more.")
        if self.calibration == LOGIT and len(self.from_) > 1:
            raise LabelError("calibrate=logit is for one scorer.", "Name one scorer, or use platt.")
        if not self.scale > 0:
            raise LabelError(f"scale={self.scale:g} is not above 0.", "Give the log-odds per unit of score.")
        if self.scale != 1 and self.calibration != LOGIT:
            raise LabelError("scale goes with calibrate: logit only.", "Leave scale out; the fit finds its own.")

    def fitted_words(self) -> str:
        """How the probability comes about."""
        if self.calibration == LOGIT:
            by = f"{self.scale:g} times the difference" if self.scale != 1 else "the difference"
            return f"its score difference taken as log-odds (sigmoid of {by})"
        folds = f"{self.folds} folds, seed {self.seed}"
        return f"{self.calibration} fitted on revealed human labels of other prompts ({folds})"

    def probability(self, frame: pl.DataFrame, evidence: pl.Expr) -> np.ndarray:
        """P(image_0 wins) by the calibration, float64 [pairs]; NaN where there is no evidence."""
        if self.calibration == LOGIT:
            logit = frame[f"d_{self.from_[0]}"].to_numpy()
            return sigmoid(self.scale * logit)
        x = frame.select(evidence.alias("x"))["x"].to_numpy()
        human = frame["human"].to_numpy()
        return cross_fitted(x, human, frame["prompt_id"], self.folds, self.seed, self.calibration)


@dataclass(frozen=True)
class PseudoLabel(Judge):
    """A synthetic annotator: g_hat, the probability that image_0 wins, for every pair.

    Its evidence is one scorer's score difference, or the mean vote of several. Beside Judge's calibrations `none`
    takes the sign: 1, 0, or 0.5. `self-training` leaves g_hat empty for the human pairs its model was trained on (a
    model must not correct a label that it has learnt), and drops other pairs that it did not judge.
    """

    name: ClassVar[str] = "pseudo_label"
    place: ClassVar[Literal["anywhere", "before", "after"]] = "before"
    sets: ClassVar[frozenset[str]] = frozenset({G_HAT})
    others: ClassVar[tuple[str, ...]] = ("none",)

    def complete(self) -> list[str]:
        return [] if self.calibration == LOGIT else self.scorers()

    def words(self) -> str:
        what = self.from_[0] if len(self.from_) == 1 else f"the mean vote of {listed(self.from_)}"
        how = "taken at its word, 1, 0 or 0.5" if self.calibration == "none" else self.fitted_words()
        return f"The synthetic annotator g_hat is {what}: {how}."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        judged = pl.col(f"d_{self.from_[0]}").is_not_null() if self.calibration == LOGIT else pl.lit(True)
        kept = frame.filter(judged | pl.col("human").is_not_null())
        if len(self.from_) == 1:
            evidence = standardised(kept, self.from_[0])
        else:
            evidence = pl.mean_horizontal(vote_of(scorer).cast(pl.Float64) for scorer in self.from_)
        if self.calibration == "none":
            g_hat = (kept.select(evidence.alias("x"))["x"].sign() + 1) / 2
        else:
            g_hat = pl.Series(self.probability(kept, evidence)).fill_nan(None)
        return kept.with_columns(g_hat.cast(pl.Float32).alias("g_hat")), {"unjudged": len(frame) - len(kept)}


@dataclass(frozen=True)
class Soft(Judge):
    """Bradley-Terry targets: the probability that image_0 wins, from one scorer's score difference or from the mean
    of several scorers' differences, each in units of its root mean square."""

    name: ClassVar[str] = "soft"
    label: ClassVar[str] = "calibrated scores"
    sets: ClassVar[frozenset[str]] = frozenset({TARGET})

    def words(self) -> str:
        mean = f"the mean of {listed(self.from_)}" if len(self.from_) > 1 else self.from_[0]
        return f"The target is the probability that image_0 wins by {mean}: {self.fitted_words()}."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        evidence = pl.mean_horizontal(standardised(frame, scorer) for scorer in self.from_)
        return frame.with_columns(
            pl.Series("target", self.probability(frame, evidence), pl.Float32),
            pl.lit(False).alias("is_human"),
            pl.lit("soft").alias("source"),
        ), {}


@dataclass(frozen=True)
class Dedpo(Step):
    """DeDPO's labels: the human label where it is known (is_human), g_hat elsewhere, and g_hat beside both."""

    name: ClassVar[str] = "dedpo"
    label: ClassVar[str] = "people and a synthetic annotator"
    sets: ClassVar[frozenset[str]] = frozenset({TARGET})
    reads: ClassVar[frozenset[str]] = frozenset({G_HAT})
    counts_human: ClassVar[bool] = True

    def words(self) -> str:
        return "The target is the human label where it is revealed and g_hat elsewhere; DeDPO's loss reads both."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        _require_labelled(frame)
        if blind := int((frame["human"].is_not_null() & frame["g_hat"].is_null()).sum()):
            raise LabelError(
                f"{blind} pairs with a revealed human label have no g_hat: their annotator was trained on them.",
                "Judge every fold by a model trained on the others (step split), or use mix.",
            )
        known = pl.col("human").is_not_null()
        return frame.with_columns(
            pl.coalesce("human", "g_hat").alias("target"), known.alias("is_human"), _source(known)
        ), {}


@dataclass(frozen=True)
class Mix(Step):
    """The naive mixture DeDPO is compared with: human labels where known, elsewhere what g_hat holds more probable.

    Pairs without human label whose g_hat is 0.5 drop out."""

    name: ClassVar[str] = "mix"
    label: ClassVar[str] = "people and a synthetic annotator"
    sets: ClassVar[frozenset[str]] = frozenset({TARGET})
    reads: ClassVar[frozenset[str]] = frozenset({G_HAT})

    def words(self) -> str:
        return (
            "The target is the human label where it is revealed, elsewhere the winner that g_hat holds more probable."
        )

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        _require_labelled(frame)
        known = pl.col("human").is_not_null()
        kept = frame.filter(known | (pl.col("g_hat") != 0.5)).with_columns(
            pl.coalesce("human", (pl.col("g_hat") > 0.5).cast(pl.Float32)).alias("target"),
            known.alias("is_human"),
            _source(known),
        )
        return kept, {"undecided": len(frame) - len(kept)}


def _source(known: pl.Expr) -> pl.Expr:
    return pl.when(known).then(pl.lit(HUMAN)).otherwise(pl.lit("g_hat")).alias("source")


def _require_labelled(frame: pl.DataFrame) -> None:
    if not frame["human"].count():
        raise LabelError(f"none of the {len(frame)} pairs has a revealed human label.", "Raise reveal's fraction.")
