"""Hand-made tables for label tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline_lib.core import schemas
from pipeline_lib.core.digest import text_id
from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.labels.recipe import apply
from pipeline_lib.labels.recipes import steps_of


def frame(
    human: Sequence[float | None], prompts: Sequence[str] | None = None, **differences: Sequence[float | None]
) -> pl.DataFrame:
    """A working table: human labels and score differences `d_<scorer>` (score of image_0 minus that of image_1)."""
    n = len(human)
    return pl.DataFrame(
        {
            "pair_id": [text_id("pair", str(i)) for i in range(n)],
            "prompt_id": [text_id(prompt) for prompt in prompts or [f"prompt {i}" for i in range(n)]],
            "image_0": [f"{i}-a" for i in range(n)],
            "image_1": [f"{i}-b" for i in range(n)],
            "human": pl.Series(human, dtype=pl.Float32),
            **{f"d_{scorer}": pl.Series(values, dtype=pl.Float64) for scorer, values in differences.items()},
        }
    )


def label(table: pl.DataFrame, recipe: Any) -> tuple[pl.DataFrame, dict[str, int]]:
    """(labels with the table's row number as `i`, counts)."""
    labels, counts = apply(table, steps_of(recipe))
    rows = table.select("pair_id").with_row_index("i")
    return labels.join(rows, on="pair_id", maintain_order="left"), dict(counts)


def targets(table: pl.DataFrame, recipe: Any) -> dict[int, float]:
    """Target by row number, of the rows kept."""
    labels, _ = label(table, recipe)
    return dict(zip(labels["i"].to_list(), labels["target"].to_list(), strict=True))


def random_frame(n: int, seed: int = 0, per_prompt: int = 5, slope: float = 2.0, **noise: float) -> pl.DataFrame:
    """Pairs with Bradley-Terry human labels; scorer `s` sees the utility difference with noise `noise[s]`."""
    rng = np.random.default_rng(seed)
    utility = rng.normal(size=n)
    human = (rng.random(n) < 1 / (1 + np.exp(-slope * utility))).astype(float)
    seen = {scorer: utility + level * rng.normal(size=n) for scorer, level in noise.items()}
    return frame(human.tolist(), [f"prompt {i // per_prompt}" for i in range(n)], **seen)


def ingested(store: str, human: Sequence[float | None]) -> Dataset:
    """A finished ingest dataset with pairs only: images `<i>-a`, `<i>-b` under prompt `p<i>`."""
    n = len(human)
    empty = pa.nulls(n, pa.string())
    columns = {
        "pair_id": [text_id("pair", str(i)) for i in range(n)],
        "prompt_id": [text_id(f"p{i}") for i in range(n)],
        "prompt": [f"p{i}" for i in range(n)],
        "image_0": [f"{i}-a" for i in range(n)],
        "image_1": [f"{i}-b" for i in range(n)],
        "label_0": pa.array(human, pa.float32()),
        "user_id": empty,
        "model_0": empty,
        "model_1": empty,
        "created_at": empty,
        "split": ["train"] * n,
    }
    w = writer(store, "ingest", 1, {"human": [-1 if h is None else h for h in human]})
    return w.commit([w.write_table("pairs/part-00000.parquet", pa.table(columns, schema=schemas.PAIRS))])


def scores(store: str, name: str, values: Mapping[tuple[str, str | None], float]) -> Dataset:
    """A finished score dataset of {(image, prompt or None): score}."""
    columns = {
        "image_uid": [image for image, _ in values],
        "prompt_id": pa.array([None if prompt is None else text_id(prompt) for _, prompt in values], pa.string()),
        "score": list(values.values()),
    }
    w = writer(store, f"scores-{name}", 1, {"values": [[*key, str(value)] for key, value in values.items()]})
    return w.commit([w.write_table("part-00000.parquet", pa.table(columns, schema=schemas.SCORES))])
