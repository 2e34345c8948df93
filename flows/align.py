"""`align`: the whole chain, from preference pairs to a registered, evaluated model."""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.encode import encode
from flows.evaluate import evaluate, held_out
from flows.ingest import ingest
from flows.label import label
from flows.register import register
from flows.score import score
from flows.self_training import annotated
from flows.train import TRAINING_FLOWS
from pipeline_lib.chain.given import check_given
from pipeline_lib.chain.mirrors import check_prompts
from pipeline_lib.core.code import recomputing
from pipeline_lib.labels.recipe import check_recipe
from pipeline_lib.labels.self_training import runnable
from pipeline_lib.presets import MethodName, PresetName, alignment
from pipeline_lib.presets import preset as find_preset
from tasks.agreement import agreement
from tasks.base import checked_base
from tasks.evaluate import trained_name
from tasks.fields import Beta, Count, FileLocation, Location, Rate, Seed, Share, SourceLocation, Steps, Text, Workers
from tasks.held_out import check_held_out
from tasks.registry import versions as registered_versions
from tasks.run_names import flow_run_name
from tasks.settings import store_url
from tasks.stages import followed
from tasks.training_settings import check_lora_targets, training_config
from tasks.values import Recipe, TrainSettings

STAGES_ARTIFACT = "stages"


@flow(name="align", flow_run_name=flow_run_name)
def align(
    preset: PresetName = "shapes",
    method: MethodName = "balanced",
    recipe: Recipe | None = None,
    steps: Steps | None = None,
    learning_rate: Rate | None = None,
    beta: Beta | None = None,
    adapter: Literal["lora", "full"] | None = None,
    seed: Seed = 0,
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    weights: Location | None = None,
    prompts: FileLocation | None = None,
    num_prompts: Count | None = None,
    base: Location | None = None,
    processes: Workers | None = None,
    sharding: Literal["none", "fsdp"] = "none",
    settings: TrainSettings | None = None,
    gate_average: Share | None = None,
    gate_scorer: Share | None = None,
    heldout: Location | None = None,
    store: Location | None = None,
    force: bool = False,
) -> str:
    """Align a base model with preferences, end to end; stages whose answer is in the store are skipped.

    Args:
        preset: Base model, data and hyper-parameters; empty fields below take its values.
        method: dpo, balanced, dedpo or adaptive.
        recipe: Label recipe: a name, YAML text, or a list of steps; empty for the method's own.
        steps: Optimizer steps.
        learning_rate: Peak learning rate as it acts; these papers give it before scaling by the pairs per step.
        beta: DPO strength in the official convention (logit = 0.5 * beta * ell).
        adapter: lora, or full fine-tuning of the UNet.
        seed: Training seed.
        source: Source of pairs: folder of Parquet, s3://..., hf://datasets/..., shapes://pairs.
        split: Split to read where the source has several.
        limit: At most this many source rows.
        weights: Where reward-model checkpoints come from: "hub", or a directory laid out like it.
        prompts: Evaluation prompt set, or a text file. The preset's may be on the hub: name one where `weights` is a
            mirror.
        num_prompts: At most this many evaluation prompts.
        base: Base model of the same family instead of the preset's: <org>/<name>@<revision>, a local folder,
            or an MLflow model URI such as models:/balanced-sdxl@champion.
        processes: Trainer processes; empty for one per GPU. Their number changes no result.
        sharding: fsdp spreads a full fine-tuning over the processes: AdamW, bf16 or no mixed precision.
        settings: Any other setting of the training run by name, such as {"compile": true, "flip": 0.5}.
        gate_average: For @champion the average win rate must lie above this share (0.5) with its whole interval.
        gate_scorer: For @champion no single scorer's win rate may lie below this share (0.45) with its whole interval.
        heldout: URI of an ingest dataset of pairs that were not trained on, to measure the implicit reward's accuracy
            on; empty for the preset's, if it has any and `source` and `weights` are its.
        store: Dataset store, a folder or fsspec URL; empty for the machine's default.
        force: Make again what other code made; the log says so where it is used. What is there stays.

    Returns:
        URI of the registered model version.
    """
    chosen = recipe or alignment(preset, method).labels
    check_recipe(chosen, (), runnable())
    judged_on = prompts or find_preset(preset).evaluate.prompts
    check_prompts(preset, prompts, num_prompts, weights)
    check_given(weights=weights, prompts=judged_on, num_prompts=num_prompts, heldout=heldout, base=base)
    config = training_config(
        preset,
        method,
        settings,
        sharding,
        steps=steps,
        learning_rate=learning_rate,
        beta=beta,
        adapter=adapter,
        seed=seed,
    )
    # One version for all stages, even if an alias moves meanwhile.
    base = checked_base(preset, base, config, find_preset(preset).evaluate.steps)
    check_lora_targets(preset, base, config)
    with recomputing(force), followed() as stages:
        stages.begin("ingest")
        pairs = ingest(preset, source, split, limit, store=store)
        heldout = heldout or held_out(preset, source, weights, store)
        if heldout:
            check_held_out(heldout, [pairs.uri])
        stages.end(pairs.status, [pairs.uri], [pairs.digest])
        stages.begin("score")
        scores = score(preset, weights=weights, pairs=pairs.uri, store=store)
        status = "ran" if any(outcome.status == "ran" for outcome in scores.values()) else "skipped"
        stages.end(status, [o.uri for o in scores.values()], [o.digest for o in scores.values()])
        stages.begin("label")
        measured = {name: outcome.uri for name, outcome in scores.items()}
        found = annotated(
            preset,
            chosen,
            config,
            pairs.uri,
            measured,
            weights=weights,
            base=base,
            processes=processes,
            sharding=sharding,
            store=store,
        )
        labels = label(preset, method, recipe, pairs=pairs.uri, scores=found, weights=weights, store=store)
        stages.end(labels.status, [labels.uri], [labels.digest])
        stages.begin("encode")
        encoded = encode(preset, flipped=config.flip > 0 or None, pairs=pairs.uri, base=base, store=store)
        stages.end(encoded.status, [encoded.uri], [encoded.digest])
        stages.begin("train")
        trained = TRAINING_FLOWS[method](
            preset,
            recipe,
            steps,
            learning_rate,
            beta,
            adapter,
            seed,
            pairs=pairs.uri,
            scores=found,
            labels=labels.uri,
            encoded=encoded.uri,
            base=base,
            processes=processes,
            sharding=sharding,
            settings=settings,
            store=store,
        )
        model = trained.outcome
        stages.end(model.status, [model.uri], [model.digest])
        stages.begin("evaluate")
        judged = evaluate(
            preset,
            method,
            prompts=prompts,
            num_prompts=num_prompts,
            gate_average=gate_average,
            gate_scorer=gate_scorer,
            weights=weights,
            model=model.uri,
            pairs=pairs.uri,
            heldout=heldout,
            agreement=agreement(store_url(store), pairs.uri, measured).uri,
            base=base,
            store=store,
        )
        stages.end(judged.status, [judged.uri], [judged.digest])
        stages.begin("register")
        known = registered_versions(trained_name(preset, model.uri))
        version = register(preset, method, model.uri, judged.uri, base=base, store=store)
        stages.end("skipped" if version in known else "ran", [version], [model.digest])
        create_table_artifact(
            stages.rows, key=STAGES_ARTIFACT, description=f"{version}: seconds and datasets by stage"
        )
        return version
