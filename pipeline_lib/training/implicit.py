"""Self-training: what a trained model prefers, as a score dataset that label recipes read (DeDPO, arXiv 2602.06195).

The implicit probability that image 0 wins is sigmoid(z), z = 0.5 * beta * ell_01 as in losses.py, averaged over fixed
timesteps. Noise is fixed too, one tensor per pair and timestep for both images, and latents are the posterior means:
the same model and pairs give the same bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline_lib.core.config import BaseModel, JudgeConfig, TrainConfig, require
from pipeline_lib.core.errors import CheckpointError, LabelError
from pipeline_lib.core.identity import identity
from pipeline_lib.core.schemas import PREFERENCES as SCHEMA
from pipeline_lib.core.store import Dataset, Shard, writer
from pipeline_lib.core.threads import one_thread
from pipeline_lib.core.weights.read import check_finite
from pipeline_lib.data.same_images import other_images
from pipeline_lib.labels.steps import SELF_TRAINING
from pipeline_lib.labels.table import PREFERENCES
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.aligned import LORA_WEIGHTS, UNET
from pipeline_lib.models.components import load_schedule, unet_from
from pipeline_lib.models.origin import base_of, check_base, check_latents
from pipeline_lib.training import reference
from pipeline_lib.training.batches import generator
from pipeline_lib.training.losses import pixel_error, preference
from pipeline_lib.training.policy import ADAPTER, Policy, build_policy
from pipeline_lib.training.reference import Weights
from pipeline_lib.training.tables import Tables, open_tables
from pipeline_lib.training.unseen import may_judge

STAGE = f"scores-{SELF_TRAINING}"
VERSION = 2
SHARD_ROWS = 4096

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Judges:
    """Trained models over one base: values for the trainable parameters of one policy.

    Attributes:
        base: the base's values, None for adapters off.
        trained: each model's values.
        betas: the beta each was trained with.
    """

    model: BaseModel
    policy: Policy
    base: Weights | None
    trained: Sequence[Weights]
    betas: Sequence[float]

    def some(self, which: np.ndarray) -> Judges:
        """Those where `which` (bool [models]) is true."""
        chosen = np.flatnonzero(which).tolist()
        return replace(self, trained=[self.trained[k] for k in chosen], betas=[self.betas[k] for k in chosen])


def judge_pairs(
    store: str,
    models: Sequence[Dataset],
    encoded: Dataset,
    pairs: Dataset,
    config: JudgeConfig | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """A score dataset of SELF_TRAINING: table "preferences" (schemas.PREFERENCES), in the order of the pairs.

    No label corrects itself (`unseen.may_judge`): one model trained on the revealed labels judges the others; several,
    each trained with one fold held out (step `split`), together judge all. Where several may judge a pair, it gets
    their mean.

    Args:
        store: root of the dataset store.
        models: datasets of the stage "model", trained from one base; their label datasets lie in the same store as
            they do.
        encoded: the encode stage's dataset of `pairs` by that base.
        pairs: a finished ingest.
        progress: called with (pairs done, pairs in all).

    Raises:
        ConfigError, CheckpointError: no model, a bad setting, models of several bases, one that cannot be loaded, or
            latents by other encoders.
        LabelError: no pair is left to judge, or one was not encoded, or with other pictures.
    """
    config = config or JudgeConfig()
    require(len(models) > 0, "There is no model to judge with.", "Give one or more datasets of the stage model.")
    require(config.timesteps > 0, f"timesteps is {config.timesteps}.", "Judge at 1 timestep or more.")
    require(config.seed >= 0, f"seed is {config.seed}.", "Give 0 or more.")
    require(config.batch_size > 0, f"batch_size is {config.batch_size}.", "Give 1 or more.")
    if problem := other_images(encoded, pairs):
        raise LabelError(
            f"The latents {encoded.uri} are not of the pairs {pairs.uri}: {problem}.", "Encode these pairs."
        )
    for model in models:
        check_base(model, base_of(models[0]))
    check_latents(encoded, base_of(models[0]))
    question = {"scorer": SELF_TRAINING, **asdict(config)}
    key = identity(question, JudgeConfig)
    w = writer(store, STAGE, VERSION, question, [*models, encoded, pairs], identity=key, modules=[__name__])
    if done := w.finished():
        return done
    frame = pairs.scan("pairs").select("pair_id", "prompt_id", "image_0", "image_1").collect()
    allowed = may_judge(models, frame)
    judged = np.array(allowed.any(axis=0))
    asked, allowed = frame.filter(judged), allowed[:, judged]
    if asked.is_empty():
        raise LabelError(
            f"Every one of the {len(frame)} pairs has a human label that the models were trained on.",
            "Train on revealed labels only (step reveal), or hold folds out (step split).",
        )
    judges: Judges | None = None
    shards: list[Shard] = []
    with tempfile.TemporaryDirectory() as cache:
        for i, start in enumerate(range(0, len(asked), SHARD_ROWS)):
            path = f"{PREFERENCES}/part-{i:05d}.parquet"
            part = asked.slice(start, SHARD_ROWS)
            shard = w.existing(path)
            if shard is None:
                judges = judges or load_judges(models, base_of(models[0]))
                probability = np.empty(len(part))
                who = allowed[:, start : start + len(part)]
                for some in np.unique(who, axis=1).T:  # pairs with the same judges
                    rows = np.flatnonzero((who == some[:, None]).all(axis=0))
                    tables = open_tables(encoded, unlabelled(part[rows]), Path(cache))
                    probability[rows] = implicit_probability(judges.some(some), tables, config).mean(axis=0)
                table = part.select("pair_id").with_columns(pl.Series("probability", probability, pl.Float32))
                shard = w.write_table(path, table.to_arrow().cast(SCHEMA), {"judged": len(part)})
            shards.append(shard)
            if progress:
                progress(start + len(part), len(asked))
    return w.commit(shards, {"pairs": len(frame), "seen": len(frame) - len(asked)})


def load_judges(models: Sequence[Dataset], base: BaseModel) -> Judges:
    """Models that were trained from `base`, on the CPU or the first GPU.

    Raises:
        ConfigError: one was trained from another base, or they have several kinds of adapters.
        CheckpointError: files of another model.
    """
    folders = [model.local("model") for model in models]
    configs = [_train_config(model) for model in models]
    require(
        len({(c.adapter, c.lora_rank) for c in configs}) == 1,
        "The models have several kinds of adapters.",
        "Judge with models of one training recipe, each with a fold held out.",
    )
    policy = build_policy(base, configs[0])
    for model in models:  # afterwards: files may have been changed until they were read
        check_base(model, base)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy.unet.to(device)
    initial = reference.initial_reference(policy)
    trained = [_weights(policy, folder, device) for folder in folders]
    return Judges(base, policy, initial, trained, [config.beta for config in configs])


def implicit_probability(judges: Judges, tables: Tables, config: JudgeConfig) -> np.ndarray:
    """Mean over timesteps of sigmoid(z) by every model for every pair of `tables`, float64 [models, pairs]."""
    return torch.sigmoid(torch.from_numpy(logits(judges, tables, config))).mean(-1).numpy()


@torch.no_grad()
def logits(judges: Judges, tables: Tables, config: JudgeConfig) -> np.ndarray:
    """z by every model for every pair of `tables` at every timestep, float64 [models, pairs, timesteps]; above 0 where
    the model prefers image 0 more than the base does."""
    device = next(iter(judges.policy.trainable.values())).device
    with one_thread(device.type):
        return _logits(judges, tables, config, device)


def _logits(judges: Judges, tables: Tables, config: JudgeConfig, device: torch.device) -> np.ndarray:
    family = FAMILIES.get(judges.model.family)
    schedule = load_schedule(judges.model).to(device)
    steps = ((np.arange(config.timesteps) + 0.5) * schedule.timesteps / config.timesteps).astype(np.int64)
    out = np.zeros((len(judges.trained), len(tables), config.timesteps))
    for start in range(0, len(tables), config.batch_size):
        rows = np.arange(start, min(start + config.batch_size, len(tables)))
        moments = tables.moments[tables.images[rows].T.reshape(-1), 0].astype(np.float32)
        clean = _tensor(moments * np.float32(tables.scaling_factor), device)
        text = _tensor(tables.embeddings[tables.prompts[rows]].astype(np.float32), device).repeat(2, 1, 1)
        pooled: Tensor | None = None
        if tables.pooled is not None:
            pooled = _tensor(tables.pooled[tables.prompts[rows]].astype(np.float32), device).repeat(2, 1)
        conditioning = family.conditioning(text, pooled, tables.resolution)
        for place, step in enumerate(steps.tolist()):
            noise = [_noise(config.seed, int(tables.keys[row]), place, clean.shape[1:]) for row in rows]
            timesteps = torch.full((2 * len(rows),), step, device=device)
            noisy, target = schedule.noisy_and_target(
                clean, _tensor(np.stack(noise), device).repeat(2, 1, 1, 1), timesteps
            )
            base, *trained = (
                pixel_error(reference.predict(judges.policy, weights, (noisy, timesteps), conditioning), target).view(
                    2, -1
                )
                for weights in (judges.base, *judges.trained)
            )
            for k, (errors, beta) in enumerate(zip(trained, judges.betas, strict=True)):
                out[k, rows, place] = (0.5 * beta * preference(errors, base).double()).cpu().numpy()
    return out


def _train_config(model: Dataset) -> TrainConfig:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in model.config["train"].items()}
    return replace(TrainConfig(**values), gradient_checkpointing=False, mixed_precision="no")


def _weights(policy: Policy, folder: Path, device: torch.device) -> Weights:
    """A trained model's values for the policy's trainable parameters; raises CheckpointError."""
    if policy.lora:
        found = {name.removeprefix("unet."): value for name, value in load_file(folder / LORA_WEIGHTS).items()}
        names = {name: name.replace(f".{ADAPTER}.", ".") for name in policy.trainable}
    else:
        found = unet_from(folder / UNET, torch.float32).state_dict()
        names = {name: name for name in policy.trainable}
    if more := sorted(found.keys() - set(names.values())):
        raise CheckpointError(f"{folder} has weights that fit nothing: {more[0]}.", "Train the model again.")
    for name, parameter in policy.trainable.items():
        value = found.get(names[name])
        if value is None or value.shape != parameter.shape:
            raise CheckpointError(f"{folder} has no weights that fit {name}.", "Train the model again.")
        check_finite(value, names[name], folder)
    return {name: found[names[name]].float().to(device) for name in policy.trainable}


def _noise(seed: int, key: int, place: int, shape: Any) -> np.ndarray:
    return generator(seed, key, place).standard_normal(tuple(shape), np.float32)


def unlabelled(frame: pl.DataFrame) -> pl.DataFrame:
    """Pairs with the label columns that tables carry, none of which judging reads."""
    return frame.with_columns(
        pl.lit(0.5).alias("target"),
        pl.lit(False).alias("is_human"),
        pl.lit(None, pl.Float32).alias("human"),
        pl.lit(None, pl.Float32).alias("g_hat"),
        pl.lit(1.0).alias("weight"),
        pl.lit(False).alias("flipped"),
    )


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
