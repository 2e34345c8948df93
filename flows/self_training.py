"""`self-training`: what trained models prefer, as scores that label recipes read."""

from __future__ import annotations

from prefect import flow

from flows.encode import encode
from flows.ingest import ingest
from pipeline_lib.config import JudgeConfig, require
from pipeline_lib.presets import PresetName
from tasks.outcome import Outcome
from tasks.run_names import flow_run_name
from tasks.self_training import self_training as self_training_task
from tasks.settings import Location, store_url


@flow(name="self-training", flow_run_name=flow_run_name)
def self_training(
    models: list[Location] | None = None,
    preset: PresetName = "shapes",
    timesteps: int = 8,
    seed: int = 0,
    source: Location | None = None,
    split: str | None = None,
    limit: int | None = None,
    pairs: Location | None = None,
    encoded: Location | None = None,
    store: Location | None = None,
) -> Outcome:
    """Judge pairs by the implicit preference of trained models; give the result to `label` as a score.

    Args:
        models: URIs of model datasets: one, trained on revealed labels, or one for each fold held out.
        preset: Settings to start from; empty fields below take its values.
        timesteps: Timesteps the preference is averaged over.
        seed: Seed of the noise, which is fixed for each pair and timestep.
        source: Source of pairs, when `pairs` is empty.
        split: Split to read, when `pairs` is empty.
        limit: At most this many source rows, when `pairs` is empty.
        pairs: URI of an ingest dataset; empty runs ingest.
        encoded: URI of an encode dataset of the pairs; empty runs encode.
        store: Dataset store; empty for the machine's default.
    """
    require(bool(models), "There is no model to judge with.", "Give URIs of datasets of the stage model in `models`.")
    config = JudgeConfig(timesteps=timesteps, seed=seed)
    pairs = pairs or ingest(preset, source, split, limit, store=store).uri
    encoded = encoded or encode(preset, pairs=pairs, store=store).uri
    return self_training_task(store_url(store), models or [], encoded, pairs, config)
