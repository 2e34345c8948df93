"""The working table of a recipe: one row per pair, with each scorer's score difference as column `d_<scorer>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from pipeline_lib.core.errors import LabelError
from pipeline_lib.core.store import Dataset
from pipeline_lib.data.same_images import other_images
from pipeline_lib.labels.lookup import find
from pipeline_lib.labels.steps import HUMAN

COLUMNS = ("pair_id", "prompt_id", "image_0", "image_1", "label_0")
PREFERENCES = "preferences"
"""Table of a score dataset that judges pairs, not images (schemas.PREFERENCES)."""
CERTAIN = 1e-7
"""Probabilities of pairs are kept this far from 0 and 1, so that their log-odds are finite."""


def pair_table(pairs: Dataset, scores: Mapping[str, Dataset], columns: Sequence[str] = ()) -> pl.DataFrame:
    """Pairs in order, with `human` (the human label or null) and `d_<scorer>`: score(image_0) - score(image_1).

    A scorer that looks at prompts is joined on (image, prompt), one that does not (prompt_id all null) on the image.
    A difference is null where either image has no score, or one that is not finite. For a scorer of pairs it is the
    log-odds that image_0 wins.

    Args:
        pairs: a finished ingest.
        scores: score datasets by scorer.
        columns: further columns of the pairs.

    Raises:
        LabelError: a score table is empty or has two scores for one image and prompt.
    """
    frame = pairs.scan("pairs").select(*COLUMNS, *columns).rename({"label_0": "human"}).collect()
    sides = _Sides([frame.select(pl.col(f"image_{side}").alias("image_uid"), "prompt_id") for side in (0, 1)])
    return frame.with_columns(
        (
            _log_odds(frame, scorer, dataset) if dataset.tables(PREFERENCES) else sides.difference(scorer, dataset)
        ).alias(f"d_{scorer}")
        for scorer, dataset in scores.items()
    )


def preferences(frame: pl.DataFrame, scorers: Sequence[str]) -> dict[str, np.ndarray]:
    """Annotator -> float64 (pairs,): above zero where it prefers image_0, below for image_1, 0 tied, NaN unknown.

    Scorers' values are score differences; the human ones are 0.5, 0 and -0.5.
    """
    human = (frame[HUMAN].cast(pl.Float64) - 0.5).to_numpy()
    return {HUMAN: human, **{name: frame[f"d_{name}"].cast(pl.Float64).to_numpy() for name in scorers}}


def check_scores(pairs: Dataset, scores: Mapping[str, Dataset]) -> None:
    """Refuse scores that were made of other pictures under the same uids; raises LabelError."""
    for scorer, dataset in scores.items():
        if problem := other_images(pairs, dataset):
            raise LabelError(
                f"The scores of {scorer}, {dataset.uri}, are not of the pairs {pairs.uri}: {problem}.",
                "Score these pairs, or give the pairs that were scored.",
            )


def scored(frame: pl.DataFrame, scorers: Sequence[str]) -> tuple[pl.DataFrame, dict[str, int]]:
    """(pairs with a difference under every scorer, how many were dropped because of each)."""
    dropped = {}
    for scorer in scorers:
        dropped[f"unscored-{scorer}"] = frame[f"d_{scorer}"].null_count()
        if dropped[f"unscored-{scorer}"]:  # a filter copies the table, whether it drops pairs or not
            frame = frame.filter(pl.col(f"d_{scorer}").is_not_null())
    return frame, dropped


def scale(frame: pl.DataFrame, scorer: str) -> float:
    """Root mean square of a scorer's differences, by which it is standardised: unlike the standard deviation it does
    not change when a pair's images are swapped. 1 when all differences are zero."""
    values = frame[f"d_{scorer}"].drop_nulls().to_numpy()
    return float(np.sqrt(np.mean(np.square(values)))) or 1.0 if len(values) else 1.0


def standardised(frame: pl.DataFrame, scorer: str) -> pl.Expr:
    """The scorer's differences in units of their root mean square over `frame`."""
    return pl.col(f"d_{scorer}") / scale(frame, scorer)


def vote_of(annotator: str, epsilon: float = 0.0) -> pl.Expr:
    """+1 where the annotator prefers image_0, -1 for image_1, 0 where it abstains; int8.

    It abstains on a tie, where it says nothing, and where a scorer's difference is at most `epsilon` in size.
    """
    value = pl.col("human") - 0.5 if annotator == "human" else pl.col(f"d_{annotator}")
    close = pl.col(f"d_{annotator}").abs() <= epsilon if epsilon else pl.lit(False)
    return pl.when(close).then(0).otherwise(value.sign()).fill_null(0).cast(pl.Int8)


@dataclass
class _Sides:
    """Images and prompts of both sides of all pairs, and where score tables have them.

    Tables of one score run list the same images in the same order, so what was found for one serves the next: strings
    are joined once, not once per scorer.
    """

    sides: list[pl.DataFrame]
    """image_uid and prompt_id; of image_0 and of image_1."""
    found: dict[int, tuple[pl.DataFrame, list[pl.Series]]] = field(default_factory=dict)
    """Number of key columns -> keys of the last such table, and the rows of each side in it (null: none)."""

    def difference(self, scorer: str, dataset: Dataset) -> pl.Series:
        """Score of image_0 minus that of image_1, float64 [pairs]."""
        table = dataset.scan().select("image_uid", "prompt_id", "score").collect()
        if not len(table):
            raise LabelError(
                f"{dataset.uri} holds no scores of {scorer}.", "Run the score stage again for these pairs."
            )
        by_prompt = table["prompt_id"].null_count() < len(table)
        rows = self._rows(table.select("image_uid", "prompt_id") if by_prompt else table.select("image_uid"), dataset)
        finite = pl.when(pl.col("score").is_finite()).then(pl.col("score").cast(pl.Float64))
        score = table.select(finite)["score"]
        return score.gather(rows[0]) - score.gather(rows[1])

    def _rows(self, keys: pl.DataFrame, dataset: Dataset) -> list[pl.Series]:
        last, rows = self.found.get(keys.width, (None, None))
        if rows is None or last is None or not last.equals(keys):
            try:
                rows = find([side.select(keys.columns) for side in self.sides], keys)
            except pl.exceptions.ComputeError as error:
                raise LabelError(
                    f"{dataset.uri} scores an image twice: {error}.", "Run the score stage again for these pairs."
                ) from error
            self.found[keys.width] = (keys, rows)
        return rows


def _log_odds(frame: pl.DataFrame, scorer: str, dataset: Dataset) -> pl.Series:
    table = dataset.scan(PREFERENCES).select("pair_id", "probability")
    joined = frame.lazy().select("pair_id").join(table, on="pair_id", how="left", maintain_order="left")
    p = pl.col("probability").cast(pl.Float64).clip(CERTAIN, 1 - CERTAIN)
    return joined.select((p / (1 - p)).log().alias(scorer)).collect()[scorer]
