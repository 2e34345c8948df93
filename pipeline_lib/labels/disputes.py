"""The pairs about which the annotators of a recipe disagree most, ready to be shown."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline_lib.agreement.disputes import Dispute
from pipeline_lib.labels.steps import HUMAN
from pipeline_lib.labels.table import scale
from pipeline_lib.store import Dataset
from pipeline_lib.stored_images import read_images

SHOWN = 8
CANDIDATES = 50 * SHOWN
"""Pairs among which they are found: sorting a million for eight would take longer than labelling them."""


def most_disputed(pairs: Dataset, frame: pl.DataFrame, labels: pl.DataFrame, scorers: Sequence[str]) -> list[Dispute]:
    """The SHOWN most disputed pairs, at most one of a prompt; their images and prompts are all that is read.

    An annotator's margin is its score difference in units of the root mean square over the pairs, and 1 for a person's
    decision. The dispute is the sum of margins on the side of the pair that has less of it.

    Args:
        frame, labels, scorers: as for `measures.measure`.
    """
    human = (2 * (pl.col("human").cast(pl.Float64) - 0.5)).fill_null(0.0)
    margins = {HUMAN: human, **{name: pl.col(f"d_{name}") / scale(frame, name) for name in scorers}}
    held = [margin.fill_null(0.0) for margin in margins.values()]
    positive = pl.sum_horizontal(pl.max_horizontal(margin, 0.0) for margin in held)
    negative = pl.sum_horizontal(pl.max_horizontal(-margin, 0.0) for margin in held)
    ranked = (
        frame.select(
            "pair_id", "prompt_id", "image_0", "image_1", "human", labels["target"],
            pl.min_horizontal(positive, negative).alias("dispute"),
            *(margin.alias(f"by {name}") for name, margin in margins.items()),
        )
        .filter(pl.col("dispute") > 0, pl.col("dispute") >= pl.col("dispute").top_k(CANDIDATES).min())
        .sort("dispute", "pair_id", descending=[True, False])
        .unique("prompt_id", keep="first", maintain_order=True)
        .head(SHOWN)
    )  # fmt: skip
    rows = ranked.to_dicts()
    shown = pairs.scan("pairs").filter(pl.col("pair_id").is_in([row["pair_id"] for row in rows]))
    prompts = dict(shown.select("pair_id", "prompt").collect().iter_rows()) if rows else {}
    images = read_images(pairs, {row[side] for row in rows for side in ("image_0", "image_1")}) if rows else {}
    return [
        Dispute(
            row["pair_id"],
            prompts[row["pair_id"]],
            (images.get(row["image_0"]), images.get(row["image_1"])),
            row["human"],
            {"label": 2 * row["target"] - 1, **{name: row[f"by {name}"] for name in scorers}},
        )
        for row in rows
    ]
