"""`self-training`: what trained models prefer, as scores that label recipes read; and the models themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from prefect import flow

from flows.encode import encode as encode_flow
from flows.ingest import ingest as ingest_flow
from flows.score import score
from pipeline_lib.chain.given import check_given
from pipeline_lib.core.code import recomputing
from pipeline_lib.core.config import JudgeConfig, TrainConfig, require
from pipeline_lib.core.overrides import override
from pipeline_lib.labels.recipe import required_scorers
from pipeline_lib.labels.recipes import Recipe
from pipeline_lib.labels.self_training import fold_recipes, reads_self_training
from pipeline_lib.labels.steps import SELF_TRAINING
from pipeline_lib.presets import PresetName
from tasks.base import base_model
from tasks.fields import Count, Location, Locations, Seed, SourceLocation, Text, Timesteps
from tasks.label import label as label_task
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.run_names import flow_run_name
from tasks.self_training import self_training as self_training_task
from tasks.settings import store_url
from tasks.train import train as train_task
from tasks.values import EncodeSettings, IngestSettings, JudgeSettings

TIMESTEPS = 4
"""Of models that flows train to judge. In the built-in world they agreed with people on .68 and .70 of 400 pairs by
four timesteps, on .70 by eight, which take twice as long, and on .65 by two."""


@flow(name="self-training", flow_run_name=flow_run_name)
@described
def self_training(
    models: Locations | None = None,
    preset: PresetName = "shapes",
    timesteps: Timesteps | None = None,
    seed: Seed | None = None,
    judge: JudgeSettings | None = None,
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    ingest: IngestSettings | None = None,
    pairs: Location | None = None,
    encode: EncodeSettings | None = None,
    encoded: Location | None = None,
    store: Location | None = None,
    force: bool = False,
) -> Outcome:
    """Judge pairs by the implicit preference of trained models; give the result to `label` as a score.

    Args:
        models: URIs of model datasets: one, trained on revealed labels, or one for each fold held out.
        timesteps: Timesteps the preference is averaged over.
        seed: Seed of the noise, which is fixed for each pair and timestep.
        encoded: URI of an encode dataset of the pairs; empty runs encode.
    """
    require(bool(models), "There is no model to judge with.", "Give URIs of datasets of the stage model in `models`.")
    config = override(JudgeConfig(), judge, timesteps=timesteps, seed=seed)
    check_given(models=models, pairs=pairs, encoded=encoded)
    with recomputing(force):
        pairs = pairs or ingest_flow(preset, source, split, limit, ingest=ingest, store=store).uri
        encoded = encoded or encode_flow(preset, encode=encode, pairs=pairs, store=store).uri
        return self_training_task(store_url(store), models or [], encoded, pairs, config)


def annotated(
    preset: PresetName,
    recipe: Recipe,
    config: TrainConfig,
    pairs: str,
    scores: Mapping[str, str] | None,
    *,
    weights: str | None = None,
    encode: Mapping[str, Any] | None = None,
    encoded: str | None = None,
    judge: Mapping[str, Any] | None = None,
    base: str | None = None,
    processes: int | None = None,
    sharding: Literal["none", "fsdp"] = "none",
    store: str | None = None,
) -> dict[str, str]:
    """`scores` with those of self-training, where the recipe reads them and they are not given.

    They are made by cross-fitting: for each fold of prompts a model is trained by Diffusion-DPO on the human labels
    that the recipe reveals of the others (`labels.self_training.fold_recipes`), and judges the fold. Everything is in
    the store afterwards, so that who asks again trains nothing.

    Args:
        config: the training run that asks; the models have its settings, seed included, but for the method.
        encoded: an encode dataset of the pairs by that base model; None runs encode with the settings `encode`.
        judge: settings of the judging models; the timesteps are `TIMESTEPS` where it has none.
        weights, base, processes, sharding, store: as for the training flows.
    """
    found = dict(scores or {})
    if SELF_TRAINING in found or not reads_self_training(recipe):
        return found
    recipes = fold_recipes(recipe)
    needed = required_scorers(recipes[0])
    if missing := [name for name in needed if name not in found]:
        outcomes = score(preset, scorers=missing, weights=weights, pairs=pairs, store=store)
        found |= {name: outcome.uri for name, outcome in outcomes.items()}
    own = replace(config, method="diffusion-dpo", reference_refresh=0, flip_rate=0.0, sample_every=0)
    encoded = (
        encoded
        or encode_flow(preset, flipped=own.flip > 0 or None, encode=encode, pairs=pairs, base=base, store=store).uri
    )
    model, root, models = base_model(preset, base), store_url(store), []
    for fold in recipes:
        labels = label_task(root, fold, pairs, {name: found[name] for name in needed}).uri
        name, inputs = f"{SELF_TRAINING}-{preset}", {"pairs": pairs}
        trained, _ = train_task(root, name, model, own, encoded, labels, inputs, processes, sharding)
        models.append(trained.uri)
    judging = override(JudgeConfig(timesteps=TIMESTEPS), judge)
    return found | {SELF_TRAINING: self_training_task(root, models, encoded, pairs, judging).uri}
