"""The pairs that annotators dispute most, ready to be shown (`disputes.html.j2`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from pipeline_lib.core.store import Dataset
from pipeline_lib.reports.stored_images import read_images


@dataclass(frozen=True)
class Dispute:
    """A pair, what people said and what every annotator says.

    Attributes:
        images: encoded bytes of image_0 and image_1; None where the ingest has none.
        human: 1 image_0 wins, 0 image_1, 0.5 tie, None unlabelled.
        votes: annotator -> how strongly it prefers an image, above zero for image_0; None where it says nothing.
    """

    pair_id: str
    prompt: str
    images: tuple[bytes | None, bytes | None]
    human: float | None
    votes: Mapping[str, float | None]


def most_disputed(pairs: Dataset, candidates: pl.DataFrame, shown: int) -> list[Dispute]:
    """The `shown` most disputed pairs, at most one of a prompt; their images and prompts are all that is read.

    Args:
        pairs: an ingest dataset.
        candidates: pair_id, prompt_id, image_0, image_1, human, dispute (from 0; pairs of 0 are left out) and the
            struct votes, as in `Dispute`.
    """
    ranked = (
        candidates.filter(pl.col("dispute") > 0)
        .sort("dispute", "pair_id", descending=[True, False])
        .unique("prompt_id", keep="first", maintain_order=True)
        .head(shown)
    )
    if ranked.is_empty():
        return []
    prompts = pairs.scan("pairs").filter(pl.col("pair_id").is_in(ranked["pair_id"].to_list()))
    prompt_of = dict(prompts.select("pair_id", "prompt").collect().iter_rows())
    images = read_images(pairs, {*ranked["image_0"], *ranked["image_1"]})
    return [
        Dispute(
            row["pair_id"],
            prompt_of[row["pair_id"]],
            (images.get(row["image_0"]), images.get(row["image_1"])),
            row["human"],
            row["votes"],
        )
        for row in ranked.iter_rows(named=True)
    ]
