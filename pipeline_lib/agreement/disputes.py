"""The pairs that scorers dispute most, ready to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline_lib.agreement.measures import conviction
from pipeline_lib.store import Dataset
from pipeline_lib.stored_images import read_images

SHOWN = 12


@dataclass(frozen=True)
class Dispute:
    """A pair, what people said and what every scorer says.

    Attributes:
        images: encoded bytes of image_0 and image_1; None where the ingest has none.
        human: 1 image_0 wins, 0 image_1, 0.5 tie, None unlabelled.
        votes: scorer -> conviction in [-1, 1], above zero for image_0; None where it gave no score.
    """

    pair_id: str
    prompt: str
    images: tuple[bytes | None, bytes | None]
    human: float | None
    votes: Mapping[str, float | None]


def most_disputed(
    pairs: Dataset, frame: pl.DataFrame, known: Mapping[str, np.ndarray], scorers: Sequence[str], disputes: np.ndarray
) -> list[Dispute]:
    """The SHOWN most disputed pairs, at most one of a prompt; their images and prompts are all that is read.

    Args:
        frame, known, disputes: `labels.table.pair_table`, `measures.preferences` and `measures.dispute` of the pairs.
    """
    ranked = (
        frame.select("pair_id", "prompt_id", "image_0", "image_1", "human", pl.Series("dispute", disputes))
        .with_row_index("row")
        .filter(pl.col("dispute") > 0)
        .sort("dispute", "pair_id", descending=[True, False])
        .unique("prompt_id", keep="first", maintain_order=True)
        .head(SHOWN)
    )
    rows = list(ranked.iter_rows(named=True))
    shown = pairs.scan("pairs").filter(pl.col("pair_id").is_in([row["pair_id"] for row in rows]))
    prompts = dict(shown.select("pair_id", "prompt").collect().iter_rows())
    images = read_images(pairs, {row[side] for row in rows for side in ("image_0", "image_1")})
    convictions = {name: conviction(known[name]) for name in scorers} if rows else {}
    return [
        Dispute(
            row["pair_id"],
            prompts[row["pair_id"]],
            (images.get(row["image_0"]), images.get(row["image_1"])),
            row["human"],
            {
                name: None if np.isnan(known[name][row["row"]]) else float(convictions[name][row["row"]])
                for name in scorers
            },
        )
        for row in rows
    ]
