"""What the pairs of a dataset ask of scorers: every distinct (image, prompt), read once per process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import polars as pl

from pipeline_lib.core.store import Dataset, open_dataset


@dataclass(frozen=True)
class Questions:
    """Prompts have positions: the order in which the pairs first show them, which images of one shard share mostly.

    Attributes:
        key: the dataset's digest.
        prompt_ids: distinct, by position.
        prompts: their texts.
        asked: distinct (image_uid, position), sorted by image_uid and prompt_id.
    """

    key: str
    prompt_ids: Sequence[str]
    prompts: Sequence[str]
    asked: pl.DataFrame

    def of(self, image_uids: pl.DataFrame) -> dict[str, list[int]]:
        """Image -> positions of its prompts in the order of their ids, for the images of a frame `image_uid`."""
        found: dict[str, list[int]] = {}
        for uid, position in self.asked.join(
            image_uids, on="image_uid", how="semi", maintain_order="left"
        ).iter_rows():
            found.setdefault(uid, []).append(position)
        return found


def questions(ingested: Dataset) -> Questions:
    """The questions of an ingest dataset (table "pairs")."""
    with _reading:  # tasks in threads of one process ask for the same at the same time
        return _questions(ingested.uri, ingested.digest)


_reading = Lock()


@lru_cache(maxsize=2)
def _questions(uri: str, key: str) -> Questions:
    pairs = open_dataset(uri).scan("pairs").select("prompt_id", "prompt", "image_0", "image_1").collect()
    texts = pairs.select("prompt_id", "prompt").unique("prompt_id", keep="first", maintain_order=True)
    position = texts.select("prompt_id").with_row_index("position")
    sides = [pairs.select(pl.col(side).alias("image_uid"), "prompt_id") for side in ("image_0", "image_1")]
    asked = (
        pl.concat(sides).unique().sort("image_uid", "prompt_id").join(position, on="prompt_id", maintain_order="left")
    )
    return Questions(
        key, texts["prompt_id"].to_list(), texts["prompt"].to_list(), asked.select("image_uid", "position")
    )
