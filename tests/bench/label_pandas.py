"""The recipes of the benchmark as a pandas user would write them: whole columns at a time, no loop over rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from pipeline_lib.core.store import Dataset
from pipeline_lib.labels.calibration import platt_slope, sigmoid
from pipeline_lib.labels.chance import keys
from tests.bench.label_data import World


def read(dataset: Dataset, columns: list[str], table: str = "") -> pd.DataFrame:
    parts = [pd.read_parquet(f"{dataset.uri}/{shard.path}", columns=columns) for shard in dataset.tables(table)]
    return pd.concat(parts, ignore_index=True)


def ids(column: pd.Series) -> pl.Series:
    """A column of strings, shared without a copy."""
    return pl.Series(pa.array(column, pa.large_string()))


def pair_table(world: World, scorers: Sequence[str]) -> pd.DataFrame:
    """Pairs with each scorer's difference `d_<scorer>`; pairs that lack one are dropped."""
    pairs = read(world.pairs, ["pair_id", "prompt_id", "image_0", "image_1", "label_0"], "pairs")
    for scorer in scorers:
        scores = read(world.scores[scorer], ["image_uid", "prompt_id", "score"])
        on = [] if scores["prompt_id"].isna().all() else ["prompt_id"]
        scores = scores[["image_uid", *on, "score"]]
        for side in (0, 1):
            here = scores.rename(columns={"image_uid": f"image_{side}", "score": f"score_{side}"})
            pairs = pairs.merge(here, on=[f"image_{side}", *on], how="left")
        pairs[f"d_{scorer}"] = pairs.pop("score_0").astype("float64") - pairs.pop("score_1").astype("float64")
    pairs = pairs[np.isfinite(pairs[[f"d_{scorer}" for scorer in scorers]]).all(axis=1)]
    return pairs[pairs["label_0"].notna() & (pairs["label_0"] != 0.5)].reset_index(drop=True)


def voting5(world: World, out: Path) -> None:
    """Human, PickScore, ImageReward, Aesthetic and HPSv2 vote; the human decides ties."""
    scorers = ["pickscore", "imagereward", "aesthetic", "hpsv2"]
    pairs = pair_table(world, scorers)
    votes = {"human": np.sign(pairs["label_0"] - 0.5)} | {name: np.sign(pairs[f"d_{name}"]) for name in scorers}
    total = sum(votes.values())
    labels = pairs[["pair_id", "prompt_id", "image_0", "image_1"]].copy()
    labels["target"] = (np.where(total == 0, votes["human"], total) > 0).astype("float32")
    labels["human"] = pairs["label_0"]
    labels["vote_sum"] = total.astype("float32")
    for name, vote in votes.items():
        labels[f"vote_{name}"] = vote.astype("int8")
    labels.to_parquet(out, compression="zstd")


def dedpo25(world: World, out: Path) -> None:
    """A quarter of the human labels, CLIP by cross-fitted Platt scaling for the rest; the same random choices."""
    pairs = pair_table(world, ["clip"])
    order = np.argsort(keys(ids(pairs["pair_id"]), 7, "reveal"), kind="stable")
    known = np.zeros(len(pairs), bool)
    known[order[: round(0.25 * len(pairs))]] = True
    human = pairs["label_0"].to_numpy()
    x = pairs["d_clip"].to_numpy()
    x = x / np.sqrt(np.mean(x**2))
    fold = keys(ids(pairs["prompt_id"]), 0, "folds") % np.uint64(5)
    g_hat = np.empty(len(pairs))
    for k in range(5):
        mine, others = fold == k, known & (fold != k)
        g_hat[mine] = sigmoid(platt_slope(x[others], human[others]) * x[mine])
    labels = pairs[["pair_id", "prompt_id", "image_0", "image_1"]].copy()
    labels["target"] = np.where(known, human, g_hat).astype("float32")
    labels["is_human"] = known
    labels["human"] = pairs["label_0"].where(known)
    labels["g_hat"] = g_hat.astype("float32")
    labels.to_parquet(out, compression="zstd")


RECIPES: dict[str, Callable[[World, Path], None]] = {"voting5": voting5, "dedpo25": dedpo25}
