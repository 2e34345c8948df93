"""Pairs and scores in the store's layout, at any size, for the benchmark of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline_lib.core import schemas
from pipeline_lib.core.store import Dataset, open_dataset, writer

SCORERS = ("clip", "pickscore", "hpsv2", "aesthetic", "imagereward")
ROUND = 7
"""Comparisons of one prompt in a row; the winner of one stands in the next, as in Pick-a-Pic."""
ROUNDS_PER_PROMPT = 2
SHARD_ROWS = 250_000


@dataclass(frozen=True)
class World:
    """A finished ingest (without images) and its score datasets."""

    pairs: Dataset
    scores: Mapping[str, Dataset]


def make_world(store: str, count: int, seed: int = 0) -> World:
    """`count` pairs with ties (11%) and unlabelled ones, each image scored by five scorers; some scores are equal.

    Images have uids like Pick-a-Pic's (36 characters). Score tables list them in the order of the pairs that show
    them, as the score stage does.
    """
    rng = np.random.default_rng(seed)
    index = np.arange(count)
    prompt = index // (ROUND * ROUNDS_PER_PROMPT)
    first = index + index // ROUND  # a round of ROUND comparisons shows ROUND + 1 images
    images = int(first[-1]) + 2
    utility = rng.normal(size=images)
    swapped = rng.random(count) < 0.5
    left, right = np.where(swapped, first + 1, first), np.where(swapped, first, first + 1)
    noisy = utility[left] - utility[right] + rng.logistic(size=count)
    label = np.where(np.abs(noisy) < 0.2, 0.5, (noisy > 0).astype(float))
    human = pa.array(label.astype(np.float32), mask=rng.random(count) < 0.01)
    uid = _ids(images, "00000000-0000-4000-8000-", 12, rng)
    prompt_ids = _ids(int(prompt[-1]) + 1, "", 16, rng)
    pair_ids = _ids(count, "", 16, rng)
    none = pa.nulls(count, pa.string())
    columns = {
        "pair_id": pair_ids,
        "prompt_id": prompt_ids.gather(prompt),
        "prompt": prompt_ids.gather(prompt),
        "image_0": uid.gather(left),
        "image_1": uid.gather(right),
        "label_0": human,
        "user_id": none,
        "model_0": none,
        "model_1": none,
        "created_at": none,
        "split": pl.repeat("train", count, eager=True),
    }
    table = pa.table(
        {k: v.to_arrow().cast(pa.string()) if isinstance(v, pl.Series) else v for k, v in columns.items()}
    )
    w = writer(store, "ingest", 1, {"count": count, "seed": seed})
    parts = [table.slice(at, SHARD_ROWS).cast(schemas.PAIRS) for at in range(0, count, SHARD_ROWS)]
    pairs = w.commit([w.write_table(f"pairs/part-{i:05d}.parquet", part) for i, part in enumerate(parts)])
    prompt_of = np.empty(images, np.int64)
    prompt_of[left], prompt_of[right] = prompt, prompt
    scores = {}
    for name in SCORERS:
        # Rounded: some images of a pair score the same.
        value = np.round(utility + rng.normal(size=images), 2)
        of_image = pl.DataFrame(
            {
                "image_uid": uid,
                "prompt_id": pl.repeat(None, images, dtype=pl.String, eager=True)
                if name == "aesthetic"
                else prompt_ids.gather(prompt_of),
                "score": value.astype(np.float32),
            }
        )
        scores[name] = _scores(store, name, of_image, [count, seed])
    return World(pairs, scores)


def open_world(store: Path) -> World:
    """The world that `make_world` left in a store."""
    found = {path.parent.parent.name: open_dataset(str(path.parent)) for path in store.glob("*/*/manifest.json")}
    return World(found["ingest"], {name: found[f"scores-{name}"] for name in SCORERS})


def _scores(store: str, name: str, table: pl.DataFrame, question: list[int]) -> Dataset:
    w = writer(store, f"scores-{name}", 1, {"of": question})
    parts = [table.slice(at, SHARD_ROWS).to_arrow().cast(schemas.SCORES) for at in range(0, len(table), SHARD_ROWS)]
    return w.commit([w.write_table(f"part-{i:05d}.parquet", part) for i, part in enumerate(parts)])


def _ids(count: int, prefix: str, digits: int, rng: np.random.Generator) -> pl.Series:
    """Distinct random-looking hexadecimal ids."""
    numbers = rng.permutation(count).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    text = [prefix + f"{number:016x}"[-digits:] for number in numbers.tolist()]
    return pl.Series(text)
