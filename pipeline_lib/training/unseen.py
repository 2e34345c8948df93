"""Which trained model may judge which pair: no label must correct itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.labels.calibration import fold_of
from pipeline_lib.labels.self_training import folds_held_out


def may_judge(models: Sequence[Dataset], frame: pl.DataFrame) -> np.ndarray:
    """Which model judges which pair, bool [models, pairs].

    Models that are cross-fitted (`labels.self_training.folds_held_out`) judge each the fold of prompts that it never
    saw, and no other: labelled and unlabelled pairs of a fold then have one annotator, as DeDPO's correction needs.
    Other models judge every pair whose human label they were not trained on.

    Args:
        frame: columns pair_id, prompt_id.
    """
    if held_out := folds_held_out([labels_of(model).config["recipe"] for model in models]):
        fold = fold_of(frame["prompt_id"], held_out[0].folds, held_out[0].seed)
        return np.stack([fold == split.fold for split in held_out])
    return np.stack([~frame["pair_id"].is_in(seen_pairs(model).implode()).to_numpy() for model in models])


def seen_pairs(model: Dataset) -> pl.Series:
    """The ids of the pairs whose human label a model was trained on; raises DatasetUnfinishedError."""
    known = labels_of(model).scan().filter(pl.col("human").is_not_null())
    return known.select("pair_id").collect()["pair_id"]


def labels_of(model: Dataset) -> Dataset:
    """The labels a model was trained on, which lie in the same store; raises DatasetUnfinishedError."""
    root = model.uri.removesuffix(f"/{model.path()}")
    return open_dataset(f"{root}/{next(s['uri'] for s in model.inputs if s['uri'].startswith('labels/'))}")
