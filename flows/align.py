"""`align`: the whole chain, from preference pairs to a registered, evaluated model."""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.encode import encode as encode_flow
from flows.evaluate import evaluate as evaluate_flow
from flows.evaluate import held_out
from flows.ingest import ingest as ingest_flow
from flows.label import label
from flows.register import register
from flows.score import score
from flows.self_training import annotated
from flows.train import TRAINING_FLOWS
from pipeline_lib.chain.given import check_given
from pipeline_lib.chain.mirrors import check_prompts
from pipeline_lib.core.code import recomputing
from pipeline_lib.core.overrides import override
from pipeline_lib.labels.recipe import check_recipe
from pipeline_lib.labels.self_training import runnable
from pipeline_lib.presets import MethodName, PresetName, alignment
from pipeline_lib.presets import preset as find_preset
from tasks.agreement import agreement
from tasks.base import checked_base
from tasks.evaluate import trained_name
from tasks.fields import Beta, Count, FileLocation, Location, Rate, Seed, Share, SourceLocation, Steps, Text, Workers
from tasks.held_out import check_held_out
from tasks.parameters import described
from tasks.registry import versions as registered_versions
from tasks.run_names import flow_run_name
from tasks.settings import store_url
from tasks.stages import followed
from tasks.training_settings import check_lora_targets, training_config
from tasks.values import EncodeSettings, EvaluateSettings, IngestSettings, JudgeSettings, Recipe, TrainSettings

STAGES_ARTIFACT = "stages"


@flow(name="align", flow_run_name=flow_run_name)
@described
def align(
    preset: PresetName = "shapes",
    method: MethodName = "balanced",
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
    prompts: FileLocation | None = None,
    num_prompts: Count | None = None,
    base: Location | None = None,
    processes: Workers | None = None,
    sharding: Literal["none", "fsdp"] = "none",
    train: TrainSettings | None = None,
    encode: EncodeSettings | None = None,
    judge: JudgeSettings | None = None,
    evaluate: EvaluateSettings | None = None,
    gate_average: Share | None = None,
    gate_scorer: Share | None = None,
    heldout: Location | None = None,
    store: Location | None = None,
    force: bool = False,
) -> str:
    """Align a base model with preferences, end to end; stages whose answer is in the store are skipped.

    Args:
        method: dpo, balanced, dedpo or adaptive.

    Returns:
        URI of the registered model version.
    """
    chosen = recipe or alignment(preset, method).labels
    check_recipe(chosen, (), runnable())
    judging = override(find_preset(preset).evaluate, evaluate, prompts=prompts, num_prompts=num_prompts)
    source, prompts = source or (ingest or {}).get("source"), prompts or (evaluate or {}).get("prompts")
    check_prompts(preset, prompts, judging.num_prompts, weights)
    check_given(weights=weights, prompts=judging.prompts, num_prompts=judging.num_prompts, heldout=heldout, base=base)
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
    )
    # One version for all stages, even if an alias moves meanwhile.
    base = checked_base(preset, base, config, judging.steps)
    check_lora_targets(preset, base, config)
    with recomputing(force), followed() as stages:
        stages.begin("ingest")
        pairs = ingest_flow(preset, source, split, limit, ingest=ingest, store=store)
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
            encode=encode,
            judge=judge,
            base=base,
            processes=processes,
            sharding=sharding,
            store=store,
        )
        labels = label(preset, method, recipe, pairs=pairs.uri, scores=found, weights=weights, store=store)
        stages.end(labels.status, [labels.uri], [labels.digest])
        stages.begin("encode")
        mirrored = config.flip > 0 or None
        encoded = encode_flow(preset, flipped=mirrored, encode=encode, pairs=pairs.uri, base=base, store=store)
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
            train=train,
            store=store,
        )
        model = trained.outcome
        stages.end(model.status, [model.uri], [model.digest])
        stages.begin("evaluate")
        judged = evaluate_flow(
            preset,
            method,
            prompts=prompts,
            num_prompts=num_prompts,
            gate_average=gate_average,
            gate_scorer=gate_scorer,
            evaluate=evaluate,
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
