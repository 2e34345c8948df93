"""What is said more than once: the first occurrence of images, repeated rows, votes for one pair, contradictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline_lib.core.store import DatasetWriter, Shard
from pipeline_lib.data.ingest.work import read_work

CONTRADICTING = "contradicting"
"""Count of the manifest: comparisons (a prompt and two images) of which each image was preferred at least once."""

FIRST = pa.schema(
    [
        pa.field("unit", pa.int32(), nullable=False),
        pa.field("duplicate", pa.bool_(), nullable=False),
        pa.field("vote", pa.int32(), nullable=False),  # how many rows without a user said the same before
        pa.field("first_0", pa.bool_(), nullable=False),  # the first occurrence of image_0's uid
        pa.field("first_1", pa.bool_(), nullable=False),
    ]
)


def first_occurrences(hashed: list[tuple[int, pl.DataFrame]]) -> pa.Table:
    """Table FIRST over all rows in source order (image_0 before image_1 within a row).

    Args:
        hashed: unit, and of its rows: hashes `pair_id`, `image_0`, `image_1`; `sound`; `anonymous`, where no user is
            named. A sound row that says what an earlier one says is a duplicate, unless it is anonymous: then it may
            be another person's vote, and nothing tells that it is not.
    """
    unit = np.concatenate([np.full(len(frame), index, np.int32) for index, frame in hashed])
    frame = pl.concat([frame for _, frame in hashed])
    sound, ids = frame["sound"].to_numpy(), frame["pair_id"].to_numpy()
    fresh = np.zeros(len(frame), bool)
    fresh[np.flatnonzero(sound)[_first(ids[sound])]] = True
    vote = np.zeros(len(frame), np.int32)
    if (again := np.flatnonzero(sound & ~fresh & frame["anonymous"].to_numpy())).size:
        vote[again] = _times_before(ids[again]) + 1
        fresh[again] = True
    uids = frame.select("image_0", "image_1").to_numpy()
    slots = np.zeros(2 * len(frame), bool)
    slots[np.flatnonzero(np.repeat(fresh, 2))[_first(uids[fresh].ravel())]] = True
    first = slots.reshape(-1, 2)
    return pa.table([unit, sound & ~fresh, vote, first[:, 0], first[:, 1]], schema=FIRST)


def contradicting(w: DatasetWriter, pairs: Sequence[Shard]) -> int:
    """Comparisons of which each image was preferred at least once, by whomever; holds hashes of them, not names."""
    judged = []
    for shard in pairs:
        frame = read_work(w, shard.path, ["prompt_id", "image_0", "image_1", "label_0"])
        swapped = pl.col("image_0") > pl.col("image_1")
        sides = pl.min_horizontal("image_0", "image_1"), pl.max_horizontal("image_0", "image_1")
        judged.append(
            frame.filter(pl.col("label_0").is_in([0.0, 1.0])).select(
                pl.struct("prompt_id", sides[0].alias("low"), sides[1].alias("high")).hash().alias("comparison"),
                ((pl.col("label_0") == 1.0) != swapped).alias("low_won"),
            )
        )
    if not judged:
        return 0
    votes = pl.concat(judged).group_by("comparison").agg(pl.col("low_won").n_unique())
    return int((votes["low_won"] > 1).sum())


def _times_before(values: np.ndarray) -> np.ndarray:
    """How often each value occurred before its position."""
    return (
        pl.Series("value", values).to_frame().select(pl.int_range(pl.len()).over("value").alias("n"))["n"].to_numpy()
    )


def _first(values: np.ndarray) -> np.ndarray:
    """Positions of the first occurrence of each distinct value."""
    return np.unique(values, return_index=True)[1]
