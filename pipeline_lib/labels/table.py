"""The working table of a recipe: one row per pair, with each scorer's score difference as column `d_<scorer>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from pipeline_lib.errors import LabelError
from pipeline_lib.store import Dataset

COLUMNS = ("pair_id", "prompt_id", "image_0", "image_1", "label_0")


def pair_table(pairs: Dataset, scores: Mapping[str, Dataset]) -> pl.DataFrame:
    """Pairs in order, with `human` (the human label or null) and `d_<scorer>`: score(image_0) - score(image_1).

    A scorer that looks at prompts is joined on (image, prompt), one that does not (prompt_id all null) on the image.
    A difference is null where either image has no score, or one that is not finite.

    Raises:
        LabelError: a score table is empty or has two scores for one image and prompt.
    """
    frame = pairs.scan("pairs").select(COLUMNS).rename({"label_0": "human"}).collect()
    for scorer, dataset in scores.items():
        frame = _with_difference(frame, scorer, dataset)
    return frame


def scored(frame: pl.DataFrame, scorers: Sequence[str]) -> tuple[pl.DataFrame, dict[str, int]]:
    """(pairs with a difference under every scorer, how many were dropped because of each)."""
    dropped = {}
    for scorer in scorers:
        kept = frame.filter(pl.col(f"d_{scorer}").is_not_null())
        dropped[f"unscored-{scorer}"] = len(frame) - len(kept)
        frame = kept
    return frame, dropped


def scale(frame: pl.DataFrame, scorer: str) -> float:
    """Root mean square of a scorer's differences, by which it is standardised: unlike the standard deviation it does
    not change when a pair's images are swapped. 1 when all differences are zero."""
    values = frame[f"d_{scorer}"].to_numpy()
    return float(np.sqrt(np.mean(np.square(values)))) or 1.0 if len(values) else 1.0


def standardised(frame: pl.DataFrame, scorer: str) -> pl.Expr:
    """The scorer's differences in units of their root mean square over `frame`."""
    return pl.col(f"d_{scorer}") / scale(frame, scorer)


def vote_of(annotator: str) -> pl.Expr:
    """+1 where the annotator prefers image_0, -1 for image_1, 0 where it abstains (equal, tied, or no label); int8."""
    value = pl.col("human") - 0.5 if annotator == "human" else pl.col(f"d_{annotator}")
    return value.sign().fill_null(0).cast(pl.Int8)


def _with_difference(frame: pl.DataFrame, scorer: str, dataset: Dataset) -> pl.DataFrame:
    table = dataset.scan().select("image_uid", "prompt_id", "score").collect()
    if not len(table):
        raise LabelError(f"{dataset.uri} holds no scores of {scorer}.", "Run the score stage again for these pairs.")
    by_prompt = table["prompt_id"].null_count() < len(table)
    value = pl.when(pl.col("score").is_finite()).then(pl.col("score").cast(pl.Float64))
    extra = ["prompt_id"] if by_prompt else []
    table = table.select("image_uid", *extra, value.alias("score"))
    for side in (0, 1):
        try:
            frame = frame.join(
                table.rename({"image_uid": f"image_{side}", "score": f"_score_{side}"}),
                on=[f"image_{side}", *extra],
                how="left",
                validate="m:1",
                maintain_order="left",
            )
        except pl.exceptions.ComputeError as error:
            raise LabelError(
                f"{dataset.uri} scores an image twice: {error}.", "Run the score stage again for these pairs."
            ) from error
    difference = (pl.col("_score_0") - pl.col("_score_1")).alias(f"d_{scorer}")
    return frame.with_columns(difference).drop("_score_0", "_score_1")
