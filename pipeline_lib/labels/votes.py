"""Steps that let annotators decide: single, vote, aggregate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import polars as pl

from pipeline_lib.core.errors import LabelError
from pipeline_lib.labels.chance import keys
from pipeline_lib.labels.steps import HUMAN, TARGET, Dropped, Step, listed, named_once, one_of
from pipeline_lib.labels.table import standardised, vote_of

AGGREGATES = {
    "random": "one of them, drawn at random for each pair, decides",
    "sum": "the sign of the sum of their raw score differences decides",
    "normalised_sum": "the sign of the sum of their score differences, each in units of its root mean square, decides",
}
TIE_RULES = {
    HUMAN: "the human label decides",
    "drop": "the pair is dropped",
    "margin": "the scorer with the largest difference in units of its root mean square decides",
}
_ROUNDING = 1e-9
"""Sums of weights closer to zero than this are ties."""


@dataclass(frozen=True)
class Single(Step):
    """One annotator decides: `human`, or a scorer (the higher score wins; equal scores drop the pair).

    A human tie stays, as target 0.5: the human did say so.
    """

    name: ClassVar[str] = "single"
    main: ClassVar[str] = "annotator"
    label: ClassVar[str] = "one annotator"
    sets: ClassVar[frozenset[str]] = frozenset({TARGET})
    annotator: str

    def scorers(self) -> list[str]:
        return [] if self.annotator == HUMAN else [self.annotator]

    def words(self) -> str:
        if self.annotator == HUMAN:
            return "The human label is the target, ties as 0.5; pairs without one are dropped."
        return f"{self.annotator} decides; pairs with equal scores are dropped."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        if self.annotator != HUMAN:
            return _decide(frame, vote_of(self.annotator), self.annotator, "equal-scores")
        kept = frame.filter(pl.col("human").is_not_null()).with_columns(
            pl.col("human").alias("target"), pl.lit(True).alias("is_human"), pl.lit(HUMAN).alias("source")
        )
        return kept, {"unlabelled": len(frame) - len(kept)}


@dataclass(frozen=True)
class Vote(Step):
    """Majority of the voters' signs (BalancedDPO): sign(sum_k w_k sign(score_k(image_0) - score_k(image_1))).

    A voter abstains on scores that differ by at most its `epsilon` (0: equal ones); `human` abstains on a tie or where
    there is no human label. `weights` are 1 unless given. `ties` says what decides a sum of zero: `human`, `drop`,
    `prior:<scorer>`, or `margin` (the scorer among the voters with the largest score difference, each in units of that
    scorer's root mean square difference). Where the rule does not decide either, the pair is dropped.
    """

    name: ClassVar[str] = "vote"
    main: ClassVar[str] = "voters"
    label: ClassVar[str] = "a vote"
    sets: ClassVar[frozenset[str]] = frozenset({TARGET})
    voters: tuple[str, ...]
    ties: str = HUMAN
    weights: Mapping[str, float] = field(default_factory=dict)
    epsilon: Mapping[str, float] = field(default_factory=dict)

    def prior(self) -> str | None:
        """The scorer of tie rule `prior:<scorer>`."""
        return self.ties.partition(":")[2] if self.ties.startswith("prior:") else None

    def scorers(self) -> list[str]:
        prior = self.prior()
        return [voter for voter in self.voters if voter != HUMAN] + ([prior] if prior else [])

    def total(self) -> float:
        """The sum of all weights, the largest `vote_sum`."""
        return sum(self.weights.get(voter, 1.0) for voter in self.voters)

    def check(self) -> None:
        named_once("voter", self.voters)
        one_of("voter with a weight", list(self.weights), self.voters)
        one_of("voter with an epsilon", list(self.epsilon), [voter for voter in self.voters if voter != HUMAN])
        if bad := [f"{voter}: {weight:g}" for voter, weight in self.weights.items() if not weight > 0]:
            raise LabelError(f"weights={{{bad[0]}}} is not above 0.", "Give positive weights; leave out who has none.")
        if bad := [f"{voter}: {value:g}" for voter, value in self.epsilon.items() if not value >= 0]:
            raise LabelError(f"epsilon={{{bad[0]}}} is negative.", "Give a score difference of 0 or more.")
        if self.ties == "margin" and set(self.voters) == {HUMAN}:
            raise LabelError("ties=margin needs a scorer among the voters.", "Add a scorer, or use ties: drop.")
        if not self.prior():
            one_of("tie rule", [self.ties], [*TIE_RULES, "prior:<scorer>"])

    def words(self) -> str:
        weights = f", weighted {_numbers(self.weights)} and else 1" if self.weights else ""
        epsilon = f" A difference of at most {_numbers(self.epsilon)} is an abstention." if self.epsilon else ""
        rule = TIE_RULES.get(self.ties) or f"{self.prior()} decides"
        rest = "" if self.ties == "drop" else "; where that decides nothing either, the pair is dropped"
        return f"{listed(self.voters)} vote{weights}; the majority decides.{epsilon} On a tie {rule}{rest}."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        frame = frame.with_columns(
            vote_of(voter, self.epsilon.get(voter, 0.0)).alias(f"vote_{voter}") for voter in self.voters
        )
        total = pl.sum_horizontal(pl.col(f"vote_{voter}") * self.weights.get(voter, 1.0) for voter in self.voters)
        frame = frame.with_columns(pl.when(total.abs() > _ROUNDING).then(total).otherwise(0.0).alias("vote_sum"))
        tied = pl.col("vote_sum") == 0
        decision = pl.when(tied).then(self._tie_rule(frame)).otherwise(pl.col("vote_sum").sign())
        kept, dropped = _decide(frame, decision, "vote", "tied")
        by_human = tied & (self.ties == HUMAN)
        rule = self.ties.partition(":")[0]
        return kept.with_columns(
            pl.col("vote_sum").cast(pl.Float32),
            by_human.alias("is_human"),
            pl.when(tied).then(pl.lit(f"tie-{rule}")).otherwise("source").alias("source"),
            ((1 + pl.col("vote_sum").abs() / self.total()) / 2).cast(pl.Float32).alias("confidence"),
        ), dropped

    def _tie_rule(self, frame: pl.DataFrame) -> pl.Expr:
        if self.ties == HUMAN:
            return vote_of(HUMAN)
        if prior := self.prior():
            return vote_of(prior)
        if self.ties == "margin":
            return _widest([standardised(frame, voter) for voter in self.voters if voter != HUMAN])
        return pl.lit(0, pl.Int8)


@dataclass(frozen=True)
class Aggregate(Step):
    """BalancedDPO's ablation baselines over scorers.

    `random` takes one scorer per pair at random; `sum` the sign of the sum of raw score differences; `normalised_sum`
    of differences in units of each scorer's root mean square difference. A zero drops the pair.
    """

    name: ClassVar[str] = "aggregate"
    main: ClassVar[str] = "of"
    label: ClassVar[str] = "aggregated scores"
    sets: ClassVar[frozenset[str]] = frozenset({TARGET})
    of: tuple[str, ...]
    how: str = "normalised_sum"
    seed: int = 0

    def scorers(self) -> list[str]:
        return list(self.of)

    def check(self) -> None:
        named_once("scorer", self.of)
        if HUMAN in self.of:
            raise LabelError("human has no score to aggregate.", "Use vote, where human is a voter.")
        one_of("how", [self.how], list(AGGREGATES))

    def words(self) -> str:
        seed = f" (seed {self.seed})" if self.how == "random" else ""
        return f"Of {listed(self.of)}, {AGGREGATES[self.how]}{seed}; a zero drops the pair."

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        if self.how == "random":
            choice = keys(frame["pair_id"], self.seed, "aggregate") % len(self.of)
            frame = frame.with_columns(pl.Series("_choice", choice))
            value = pl.coalesce(
                pl.when(pl.col("_choice") == i).then(pl.col(f"d_{scorer}")) for i, scorer in enumerate(self.of)
            )
        elif self.how == "sum":
            value = pl.sum_horizontal(pl.col(f"d_{scorer}") for scorer in self.of)
        else:
            value = pl.sum_horizontal(standardised(frame, scorer) for scorer in self.of)
        kept, dropped = _decide(frame, value.sign(), f"aggregate-{self.how}", "equal-scores")
        return kept.drop("_choice", strict=False), dropped


def _decide(frame: pl.DataFrame, sign: pl.Expr, source: str, reason: str) -> tuple[pl.DataFrame, Dropped]:
    """Target 1 where `sign` > 0, 0 where < 0; pairs where it is 0 are dropped and counted under `reason`."""
    decided = frame.with_columns(sign.alias("_sign"))
    kept = decided.filter(pl.col("_sign") != 0).with_columns(
        (pl.col("_sign") > 0).cast(pl.Float32).alias("target"),
        pl.lit(False).alias("is_human"),
        pl.lit(source).alias("source"),
    )
    return kept.drop("_sign"), {reason: len(frame) - len(kept)}


def _widest(margins: Sequence[pl.Expr]) -> pl.Expr:
    """Sign of the margin largest in size; 0 where the largest positive and negative ones are equal."""
    return (pl.max_horizontal(*margins, 0.0) + pl.min_horizontal(*margins, 0.0)).sign()


def _numbers(values: Mapping[str, float]) -> str:
    return listed([f"{name} {value:g}" for name, value in values.items()])
