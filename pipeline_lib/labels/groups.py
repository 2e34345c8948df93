"""Groups of pairs that steps treat evenly: by prompt, user, generators or label."""

from __future__ import annotations

import polars as pl

from pipeline_lib.labels.steps import one_of

GROUPS = {
    "prompt": "prompts",
    "user": "users",
    "models": "pairs of generators",
    "label": "the two sides",
}
"""What pairs are grouped by -> how to call the groups."""

COLUMNS = {"user": ("user_id",), "models": ("model_0", "model_1")}
"""The columns of the pairs that a grouping reads beside the ids."""


def check_group(name: str, by: str) -> None:
    """Raise LabelError unless option `name` is a grouping."""
    one_of(name, [by], list(GROUPS))


def group_of(by: str, label: str = "target") -> pl.Expr:
    """The group of each pair, a string; "" where it is not known.

    Generators form the same group in either order. The label's side is that of the more probable winner.
    """
    if by == "prompt":
        return pl.col("prompt_id")
    if by == "user":
        return pl.col("user_id").fill_null("")
    if by == "models":
        first, second = pl.col("model_0").fill_null(""), pl.col("model_1").fill_null("")
        return pl.concat_str(pl.min_horizontal(first, second), pl.max_horizontal(first, second), separator=" against ")
    side = (pl.col(label) > 0.5).cast(pl.Int8).cast(pl.String)
    return pl.when(pl.col(label) != 0.5).then(side).otherwise(pl.lit(""))
