"""The pairs that scorers dispute most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from pipeline_lib.agreement.measures import conviction
from pipeline_lib.core.store import Dataset
from pipeline_lib.reports.disputes import Dispute, most_disputed

SHOWN = 12


def disputes_of(
    pairs: Dataset, frame: pl.DataFrame, known: Mapping[str, np.ndarray], scorers: Sequence[str], disputes: np.ndarray
) -> list[Dispute]:
    """The SHOWN most disputed pairs with every scorer's conviction in [-1, 1]; None where it gave no score.

    Args:
        frame, known, disputes: `labels.table.pair_table`, `measures.preferences` and `measures.dispute` of the pairs.
    """
    votes = {name: np.where(np.isnan(known[name]), np.nan, conviction(known[name])) for name in scorers}
    candidates = frame.select(
        "pair_id", "prompt_id", "image_0", "image_1", "human",
        pl.Series("dispute", disputes),
        pl.DataFrame(votes, nan_to_null=True).to_struct("votes"),
    )  # fmt: skip
    return most_disputed(pairs, candidates, SHOWN)
