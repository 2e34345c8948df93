"""`train-dpo`, `train-balanced`, `train-dedpo`, `train-adaptive`: one aligned model each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefect import Flow, flow

from flows.encode import encode as encode_flow
from flows.ingest import ingest as ingest_flow
from flows.label import label
from flows.self_training import annotated
from pipeline_lib.chain.given import check_given
from pipeline_lib.core.code import recomputing
from pipeline_lib.core.names import model_name
from pipeline_lib.labels.recipe import check_recipe
from pipeline_lib.labels.self_training import runnable
from pipeline_lib.presets import MethodName, PresetName, alignment
from tasks.base import base_model, checked_base
from tasks.fields import Beta, Count, Interval, Location, Rate, ScoreUris, Seed, SourceLocation, Steps, Text, Workers
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.run_names import flow_run_name
from tasks.settings import store_url
from tasks.train import train as train_task
from tasks.training_settings import check_lora_targets, training_config
from tasks.values import EncodeSettings, IngestSettings, JudgeSettings, Recipe, TrainSettings


@dataclass(frozen=True)
class Trained:
    """A trained model, the pairs it came from, and its MLflow run."""

    outcome: Outcome
    pairs: str
    run_id: str


def training_flow(method: MethodName) -> Flow[..., Trained]:
    """The training flow of one method; all have the same form."""

    @flow(name=f"train-{method}", flow_run_name=flow_run_name)
    @described
    def run(
        preset: PresetName = "shapes",
        recipe: Recipe | None = None,
        steps: Steps | None = None,
        learning_rate: Rate | None = None,
        beta: Beta | None = None,
        adapter: Literal["lora", "full"] | None = None,
        seed: Seed | None = None,
        source: SourceLocation | None = None,
        split: Text | None = None,
        limit: Count | None = None,
        ingest: IngestSettings | None = None,
        weights: Location | None = None,
        pairs: Location | None = None,
        scores: ScoreUris | None = None,
        labels: Location | None = None,
        encoded: Location | None = None,
        base: Location | None = None,
        store: Location | None = None,
        processes: Workers | None = None,
        sharding: Literal["none", "fsdp"] = "none",
        optimizer: Literal["adamw", "adamw8bit", "adafactor"] | None = None,
        mixed_precision: Literal["no", "fp16", "bf16"] | None = None,
        sample_every: Interval | None = None,
        train: TrainSettings | None = None,
        encode: EncodeSettings | None = None,
        judge: JudgeSettings | None = None,
        force: bool = False,
    ) -> Trained:
        """Train a model on preference pairs, running upstream stages that the store does not hold yet.

        Args:
            scores: URIs of score datasets by scorer; missing ones are run. For self-training, models are trained
                with these settings, by Diffusion-DPO, one per fold.
            labels: URI of a labels dataset; empty runs label.
            encoded: URI of an encode dataset; empty runs encode.
            optimizer: AdamW, 8-bit AdamW (GPU and the extra `gpu`) or Adafactor.
            mixed_precision: Precision of the forward passes; weights that train stay fp32.
            sample_every: Optimizer steps between grids of sample images, shown in MLflow; 0 for none.
        """
        chosen = recipe or alignment(preset, method).labels
        check_recipe(chosen, scores or {}, runnable())
        check_given(weights=weights, pairs=pairs, scores=scores, labels=labels, encoded=encoded, base=base)
        config = training_config(
            preset,
            method,
            train,
            sharding,
            steps=steps,
            learning_rate=learning_rate,
            beta=beta,
            adapter=adapter,
            seed=seed,
            optimizer=optimizer,
            mixed_precision=mixed_precision,
            sample_every=sample_every,
        )
        base = checked_base(preset, base, config)
        check_lora_targets(preset, base, config)
        with recomputing(force):
            pairs = pairs or ingest_flow(preset, source, split, limit, ingest=ingest, store=store).uri
            if labels is None:
                scores = (
                    annotated(
                        preset,
                        chosen,
                        config,
                        pairs,
                        scores,
                        weights=weights,
                        encode=encode,
                        encoded=encoded,
                        judge=judge,
                        base=base,
                        processes=processes,
                        sharding=sharding,
                        store=store,
                    )
                    or scores
                )
                labels = label(preset, method, recipe, weights=weights, pairs=pairs, scores=scores, store=store).uri
            flipped = config.flip > 0 or None
            encoded = (
                encoded or encode_flow(preset, flipped=flipped, encode=encode, pairs=pairs, base=base, store=store).uri
            )
            lineage = {"pairs": pairs} | {f"scores-{name}": uri for name, uri in (scores or {}).items()}
            outcome, run_id = train_task(
                store_url(store),
                model_name(preset, config.method),
                base_model(preset, base),
                config,
                encoded,
                labels,
                lineage,
                processes,
                sharding,
            )
            return Trained(outcome, pairs, run_id)

    return run


train_dpo = training_flow("dpo")
train_balanced = training_flow("balanced")
train_dedpo = training_flow("dedpo")
train_adaptive = training_flow("adaptive")

TRAINING_FLOWS: dict[str, Flow[..., Trained]] = {
    "dpo": train_dpo,
    "balanced": train_balanced,
    "dedpo": train_dedpo,
    "adaptive": train_adaptive,
}
