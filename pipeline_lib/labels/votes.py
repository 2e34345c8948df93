"""Steps that let annotators decide: single, vote, aggregate."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline_lib.labels.chance import keys
from pipeline_lib.labels.steps import HUMAN, Aggregate, Single, Vote
from pipeline_lib.labels.table import standardised, vote_of

Dropped = dict[str, int]


def single(frame: pl.DataFrame, step: Single) -> tuple[pl.DataFrame, Dropped]:
    """Target by one annotator. A human tie stays, as 0.5: the human did say so."""
    if step.annotator == HUMAN:
        kept = frame.filter(pl.col("human").is_not_null()).with_columns(
            pl.col("human").alias("target"), pl.lit(True).alias("is_human"), pl.lit(HUMAN).alias("source")
        )
        return kept, {"unlabelled": len(frame) - len(kept)}
    return _decide(frame, vote_of(step.annotator), step.annotator, "equal-scores")


def vote(frame: pl.DataFrame, step: Vote) -> tuple[pl.DataFrame, Dropped]:
    """Target by majority; columns `vote_<voter>` and `vote_sum` say how."""
    frame = frame.with_columns(vote_of(voter).alias(f"vote_{voter}") for voter in step.voters)
    total = pl.sum_horizontal(pl.col(f"vote_{voter}").cast(pl.Int32) for voter in step.voters)
    frame = frame.with_columns(total.alias("vote_sum"))
    tied = pl.col("vote_sum") == 0
    decision = pl.when(tied).then(_tie_rule(frame, step)).otherwise(pl.col("vote_sum").sign())
    kept, dropped = _decide(frame, decision, "vote", "tied")
    by_human = tied & (step.ties == HUMAN)
    rule = step.ties.partition(":")[0]
    return kept.with_columns(
        by_human.alias("is_human"), pl.when(tied).then(pl.lit(f"tie-{rule}")).otherwise("source").alias("source")
    ), dropped


def aggregate(frame: pl.DataFrame, step: Aggregate) -> tuple[pl.DataFrame, Dropped]:
    """Target by one of the aggregation baselines."""
    if step.how == "random":
        choice = keys(frame["pair_id"], step.seed, "aggregate") % len(step.of)
        frame = frame.with_columns(pl.Series("_choice", choice))
        value = pl.coalesce(
            pl.when(pl.col("_choice") == i).then(pl.col(f"d_{scorer}")) for i, scorer in enumerate(step.of)
        )
    elif step.how == "sum":
        value = pl.sum_horizontal(pl.col(f"d_{scorer}") for scorer in step.of)
    else:
        value = pl.sum_horizontal(standardised(frame, scorer) for scorer in step.of)
    kept, dropped = _decide(frame, value.sign(), f"aggregate-{step.how}", "equal-scores")
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


def _tie_rule(frame: pl.DataFrame, step: Vote) -> pl.Expr:
    if step.ties == HUMAN:
        return vote_of(HUMAN)
    if prior := step.prior():
        return vote_of(prior)
    if step.ties == "margin":
        return _widest([standardised(frame, voter) for voter in step.voters if voter != HUMAN])
    return pl.lit(0, pl.Int8)


def _widest(margins: Sequence[pl.Expr]) -> pl.Expr:
    """Sign of the margin largest in size; 0 where the largest positive and negative ones are equal."""
    return (pl.max_horizontal(*margins, 0.0) + pl.min_horizontal(*margins, 0.0)).sign()
