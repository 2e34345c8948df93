"""`compare`: any two or more models on the same prompts and seeds, with intervals and a report."""

from __future__ import annotations

from prefect import flow

from flows.paint import paint_and_judge
from pipeline_lib.chain.given import check_given
from pipeline_lib.core.code import recomputing
from pipeline_lib.core.overrides import override
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.base import base_model, pinned
from tasks.compare import check_models
from tasks.compare import compare as compare_task
from tasks.contenders import find_models
from tasks.fields import Count, FileLocation, Guidance, Location, Locations, ScorerNames, Seeds, Timesteps, Workers
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.run_names import flow_run_name
from tasks.runners import RunnerName, task_runner
from tasks.settings import store_url
from tasks.values import EvaluateSettings


@flow(name="compare", flow_run_name=flow_run_name)
@described
def compare(
    models: Locations | None = None,
    reference: Location | None = None,
    preset: PresetName = "shapes",
    prompts: FileLocation | None = None,
    num_prompts: Count | None = None,
    seeds: Seeds | None = None,
    steps: Timesteps | None = None,
    guidance: Guidance | None = None,
    evaluate: EvaluateSettings | None = None,
    scorers: ScorerNames | None = None,
    weights: Location | None = None,
    heldout: Location | None = None,
    base: Location | None = None,
    runner: RunnerName = "thread",
    address: Location | None = None,
    max_workers: Workers | None = None,
    store: Location | None = None,
    force: bool = False,
) -> Outcome:
    """Compare models with one of them: win rates by every reward model, a report, and a run in MLflow.

    Images and scores that an evaluation left in the store are taken from there.

    Args:
        models: Two or more of: base; models:/<name>@<alias> or models:/<name>/<version> from MLflow's registry;
            model/<key> or the URI of a model dataset; a folder of diffusers, or one that training wrote;
            <org>/<name>@<revision> on the hub. A folder or repository may hold a UNet alone, or a LoRA, whose file
            may be named as well: they are put into the base. Empty for base and models:/balanced-<preset>@candidate.
        reference: Which of them the others are compared with; empty for the first.
        seeds: Images per prompt, one for each seed.
        steps: Sampling steps.
        scorers: Reward models that judge.
        base: What base means among the models, and what UNets alone and LoRAs are put into, instead of the preset's
            base model: <org>/<name>@<revision>, a local folder, or an MLflow model URI.
    """
    where = task_runner(runner, address)
    chosen, store = find_preset(preset), store_url(store)
    names = models or ["base", f"models:/balanced-{preset}@candidate"]
    if reference is not None and reference not in names:
        raise unknown_name("reference", reference, names)
    config = override(
        chosen.evaluate,
        evaluate,
        prompts=prompts,
        num_prompts=num_prompts,
        seeds=seeds or None,
        steps=steps,
        guidance=guidance,
    )
    check_given(
        prompts=config.prompts,
        num_prompts=config.num_prompts,
        scorers=scorers,
        weights=weights,
        heldout=heldout,
        base=base,
    )
    found = find_models(store, base_model(preset, pinned(base)), names)
    judges, mirror = scorers or list(chosen.scorers), weights or chosen.weights
    contestants, pairs = [(contender.model, contender.base) for contender in found], check_models(found, heldout)
    with recomputing(force):
        device = paint_and_judge.with_options(task_runner=where)(
            store, contestants, config, judges, mirror, pairs, heldout, runner, max_workers
        )
        chief = found[names.index(reference or names[0])]
        return compare_task(store, found, chief, config, judges, mirror, heldout, device)
