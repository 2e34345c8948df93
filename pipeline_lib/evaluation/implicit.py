"""Stage "implicit": which image of a pair a trained model prefers, on pairs that people judged and nobody trained on.

Diffusion-DPO, section 5.5: training by preferences makes the model a judge of images. Its reward for image 0 over
image 1 is the mean of z = 0.5 beta ell (`training.losses`) over a few timesteps, each with one noise tensor for both
images, against the base it was trained from. Timesteps are spread evenly and the noise is a function of (seed, pair,
timestep), so the same model and pairs give the same bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline_lib.core import store
from pipeline_lib.core.config import BaseModel, EncodeConfig, EvaluateConfig, JudgeConfig, require
from pipeline_lib.core.errors import EvaluationError
from pipeline_lib.core.identity import identity
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.core.store import Dataset, Shard
from pipeline_lib.encoding.plan import open_encoding
from pipeline_lib.evaluation.statistics import Interval, bootstrap, shares
from pipeline_lib.generation.prompts import leaked
from pipeline_lib.models.origin import check_base

STAGE = "implicit"
VERSION = 1
SHARD_ROWS = 1024
REWARD = "reward"
"""The column of the mean z: above 0 where the model prefers image 0 more than its base does."""


def rewards_by_model(
    root: str,
    models: Mapping[str, Dataset | None],
    bases: Mapping[str, BaseModel],
    held_out: Dataset,
    config: EvaluateConfig,
) -> dict[str, Dataset]:
    """`implicit_rewards` of every model that this pipeline trained; of others the training is not known."""
    return {
        name: implicit_rewards(root, model, bases[name], held_out, config)
        for name, model in models.items()
        if model is not None and judges_pairs(model)
    }


def judges_pairs(model: Dataset | None) -> bool:
    """Whether a model has an implicit reward that can be measured: this pipeline trained it."""
    return model is not None and "train" in model.config


def implicit_rewards(root: str, model: Dataset, base: BaseModel, held_out: Dataset, config: EvaluateConfig) -> Dataset:
    """Columns pair_id, prompt_id, human (1 or 0) and REWARD (float32), of the pairs that people decided.

    The pairs are encoded first (stage "encoded"), as training data is; finished shards of an earlier run are kept.

    Args:
        root: the store's URL.
        model: dataset of stage "model" that training wrote.
        base: the pipeline it was trained from.
        held_out: a finished ingest.
        config: `implicit_draws`, `implicit_seed`, and `resolution` and `mixed_precision` for the encoding.

    Raises:
        ConfigError, CheckpointError: no draws, a model of another base, or the model or its base cannot be loaded.
        EvaluationError: people decided none of the pairs.
    """
    check_base(model, base)
    require(config.implicit_draws > 0, f"implicit_draws is {config.implicit_draws}.", "Judge at 1 timestep or more.")
    require(config.implicit_seed >= 0, f"implicit_seed is {config.implicit_seed}.", "Give 0 or more.")
    draws = JudgeConfig(timesteps=config.implicit_draws, seed=config.implicit_seed)
    encoded = encoded_held_out(root, base, held_out, config)
    question, inputs = asdict(draws), [model, encoded, held_out]
    key = identity(question, JudgeConfig)
    writer = store.writer(root, STAGE, VERSION, question, inputs, identity=key, modules=[__name__])
    if finished := writer.finished():
        return finished
    columns = ("pair_id", "prompt_id", "image_0", "image_1", "label_0")
    frame = held_out.scan("pairs").select(columns).rename({"label_0": "human"}).collect()
    decided = frame.filter(pl.col("human") != 0.5)  # which drops unlabelled pairs, too
    _require_decided(decided, len(frame), held_out)
    from pipeline_lib.training.implicit import load_judges, logits, unlabelled  # these load torch
    from pipeline_lib.training.tables import open_tables

    loaded = None
    shards: list[Shard] = []
    with tempfile.TemporaryDirectory() as cache:
        for index, part in enumerate(decided.iter_slices(SHARD_ROWS)):
            path = f"part-{index:05d}.parquet"
            shard = writer.existing(path)
            if shard is None:
                loaded = loaded or load_judges([model], base)
                (found,) = logits(loaded, open_tables(encoded, unlabelled(part), Path(cache)), draws)
                table = part.select("pair_id", "prompt_id", pl.col("human").cast(pl.Float32))
                table = table.with_columns(pl.Series(REWARD, found.mean(axis=1), pl.Float32))
                shard = writer.write_table(path, table.to_arrow(), {"decided": len(part)})
            shards.append(shard)
    return writer.commit(shards, {"pairs": len(frame)})


def encoded_held_out(root: str, base: BaseModel, held_out: Dataset, config: EvaluateConfig) -> Dataset:
    """The pairs as models of this base see them (stage "encoded")."""
    settings = EncodeConfig(resolution=config.resolution, mixed_precision=config.mixed_precision)
    if isinstance(work := open_encoding(root, base, settings, held_out), Dataset):
        return work
    from pipeline_lib.encoding.stage import encode  # loads torch

    return encode(root, base, settings, held_out)


def implicit_accuracy(rewards: Dataset, seen: Collection[str] = ()) -> dict[str, Any]:
    """How often the model prefers the image that people preferred.

    A reward of exactly zero prefers neither and counts half, so that a model that is its base has 1/2.

    Args:
        rewards: a dataset of `implicit_rewards`.
        seen: ids of prompts to leave out.

    Returns:
        `accuracy` as [share, low, high] (95%, clustered by prompt), and the counts `pairs`, `prompts`, `undecided`
        (rewards of zero) and `leaked` (pairs left out).

    Raises:
        EvaluationError: fewer than two prompts are left.
    """
    every = rewards.scan().collect()
    frame = every.filter(~pl.col("prompt_id").is_in(list(seen)))
    prompts, index = np.unique(frame["prompt_id"].to_numpy(), return_inverse=True)
    _require_prompts(len(prompts), len(frame), len(every))
    sign = np.sign(frame[REWARD].to_numpy().astype(np.float64))
    right = (0.5 * sign * np.where(frame["human"].to_numpy() > 0.5, 1.0, -1.0))[:, None]
    share: Interval = shares(bootstrap(right, index, len(prompts)), right, index, len(prompts))[0]
    return {
        "accuracy": [share.point, share.low, share.high],
        "pairs": len(frame),
        "prompts": len(prompts),
        "undecided": int(np.sum(sign == 0)),
        "leaked": len(every) - len(frame),
    }


def check_unseen(held_out: Dataset, training_pairs: Sequence[Dataset]) -> None:
    """Refuse held-out pairs of which nothing could be measured, before models are trained or paint.

    Raises:
        EvaluationError: people decided none, or the prompts of those that they decided were trained on, all but one.
    """
    pairs = held_out.scan("pairs").select("prompt_id", "label_0").collect()
    decided = pairs.filter(pl.col("label_0") != 0.5)  # which drops unlabelled pairs, too
    _require_decided(decided, len(pairs), held_out)
    left = decided.filter(~pl.col("prompt_id").is_in(list(trained_prompts(held_out, training_pairs))))
    _require_prompts(left["prompt_id"].n_unique(), len(left), len(decided))


def _require_decided(decided: pl.DataFrame, pairs: int, held_out: Dataset) -> None:
    if decided.is_empty():
        raise EvaluationError(
            f"People decided none of the {pairs} pairs of {held_out.uri}.", "Give pairs with human labels."
        )


def _require_prompts(prompts: int, left: int, pairs: int) -> None:
    if prompts < 2:
        raise EvaluationError(
            f"Only {prompts} prompts of the held-out pairs can be used; the prompts of {pairs - left} "
            f"of {pairs} pairs were trained on.",
            "Give held-out pairs with other prompts.",
        )


def trained_prompts(held_out: Dataset, training_pairs: Iterable[Dataset]) -> set[str]:
    """Ids of the held-out pairs' prompts that also occur in training pairs."""
    rows = held_out.scan("pairs").select("prompt", "prompt_id").unique().collect().rows()
    seen = {prompt for pairs in training_pairs for prompt in leaked([text for text, _ in rows], pairs)}
    return {prompt_id for text, prompt_id in rows if text in seen}


def judged_by_prompt(
    rewards: Dataset, held_out: Dataset, seen: Collection[str] = (), generator: str | None = None
) -> dict[str, float]:
    """Share of each prompt's decided pairs that the model judges as people did; a reward of zero counts half.

    Args:
        rewards: a dataset of `implicit_rewards` on `held_out`.
        held_out: the ingest that was judged.
        seen: ids of prompts to leave out.
        generator: only pairs with an image by it (`model_0` or `model_1`); None for all pairs.

    Returns:
        prompt_id -> share, in the order of the ids; prompts without such a pair are absent.

    Raises:
        UnknownNameError: no decided pair has an image by that generator.
        EvaluationError: the rewards are of other pairs, or every prompt was seen.
    """
    made_by = held_out.scan("pairs").select("pair_id", "model_0", "model_1").collect()
    every = rewards.scan().collect()
    frame = every.join(made_by, on="pair_id", how="inner", validate="m:1", maintain_order="left")
    if len(frame) < len(every):
        raise EvaluationError(
            f"{len(every) - len(frame)} of {len(every)} pairs judged are not among those of {held_out.uri}.",
            "Give the held-out pairs that the model judged.",
        )
    if generator is not None:
        known = {str(name) for side in ("model_0", "model_1") for name in frame[side].unique() if name}
        if generator not in known:
            raise unknown_name("generator of held-out images", generator, sorted(known))
        frame = frame.filter(pl.any_horizontal(pl.col("model_0", "model_1").eq_missing(pl.lit(generator))))
    used = frame.filter(~pl.col("prompt_id").is_in(list(seen)))
    if used.is_empty():
        raise EvaluationError(
            f"The prompts of all {len(frame)} held-out pairs" + (f" by {generator}" if generator else "") + " were "
            "trained on.",
            "Give held-out pairs with other prompts.",
        )
    sign = pl.col(REWARD).cast(pl.Float64).sign() * pl.when(pl.col("human") > 0.5).then(1.0).otherwise(-1.0)
    shares_of = used.group_by("prompt_id").agg((0.5 + 0.5 * sign).mean().alias("share")).sort("prompt_id")
    return dict(shares_of.iter_rows())
