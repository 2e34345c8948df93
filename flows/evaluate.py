"""`evaluate`: an aligned model against its base, on held-out prompts, with intervals and a report."""

from __future__ import annotations

from prefect import flow

from flows.ingest import ingest as ingest_flow
from flows.paint import paint_and_judge
from flows.train import TRAINING_FLOWS
from pipeline_lib.chain.given import check_given
from pipeline_lib.chain.mirrors import check_prompts, held_out_pairs
from pipeline_lib.core.code import recomputing
from pipeline_lib.core.overrides import override
from pipeline_lib.core.store import open_dataset
from pipeline_lib.presets import MethodName, PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.base import base_model, check_trained_on, checked_base
from tasks.evaluate import contestants, trained_name
from tasks.evaluate import evaluate as evaluate_task
from tasks.fields import Count, FileLocation, Guidance, Location, Seed, Share, SourceLocation, Timesteps, Workers
from tasks.held_out import check_held_out
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.run_names import flow_run_name
from tasks.runners import RunnerName, task_runner
from tasks.settings import store_url
from tasks.values import EvaluateSettings, IngestSettings


@flow(name="evaluate", flow_run_name=flow_run_name)
@described
def evaluate(
    preset: PresetName = "shapes",
    method: MethodName = "balanced",
    seed: Seed = 0,
    prompts: FileLocation | None = None,
    num_prompts: Count | None = None,
    steps: Timesteps | None = None,
    guidance: Guidance | None = None,
    gate_average: Share | None = None,
    gate_scorer: Share | None = None,
    evaluate: EvaluateSettings | None = None,
    source: SourceLocation | None = None,
    ingest: IngestSettings | None = None,
    weights: Location | None = None,
    model: Location | None = None,
    pairs: Location | None = None,
    heldout: Location | None = None,
    agreement: Location | None = None,
    base: Location | None = None,
    runner: RunnerName = "thread",
    address: Location | None = None,
    max_workers: Workers | None = None,
    store: Location | None = None,
    force: bool = False,
) -> Outcome:
    """Generate with both models for the same prompts and seeds, score with every reward model, report win rates.

    Args:
        method: Method whose training flow is run, when `model` is empty.
        seed: Training seed, when `model` is empty.
        steps: Sampling steps.
        weights: Where reward-model checkpoints come from. A mirror also means that no prompts and no held-out pairs
            are fetched from the hub unless `prompts` and `heldout` name them.
        model: URI of a model dataset; empty runs the method's training flow.
        pairs: URI of the ingest dataset the model was trained on, for the check that no prompt was seen in training.
        agreement: URI of an agreement dataset, the comparison of scorers with people, to be summed up in the report.
    """
    where = task_runner(runner, address)
    chosen = find_preset(preset)
    config = override(
        chosen.evaluate,
        evaluate,
        prompts=prompts,
        num_prompts=num_prompts,
        steps=steps,
        guidance=guidance,
        gate_average=gate_average,
        gate_scorer=gate_scorer,
    )
    check_prompts(preset, prompts or (evaluate or {}).get("prompts"), config.num_prompts, weights)
    check_given(
        prompts=config.prompts,
        num_prompts=config.num_prompts,
        weights=weights,
        model=model,
        pairs=pairs,
        heldout=heldout,
        agreement=agreement,
        base=base,
    )
    with recomputing(force):
        base = checked_base(preset, base, steps=config.steps)
        if model:
            check_trained_on(preset, base, model)
        pairs = pairs or ingest_flow(preset, source, ingest=ingest, store=store).uri
        heldout = heldout or held_out(preset, open_dataset(pairs).config["source"], weights, store)
        if heldout:
            check_held_out(heldout, [pairs])
        if model is None:
            trained = TRAINING_FLOWS[method](preset, seed=seed, weights=weights, pairs=pairs, base=base, store=store)
            model = trained.outcome.uri
        root, own, name = store_url(store), base_model(preset, base), trained_name(preset, model)
        scorers, mirror = list(chosen.scorers), weights or chosen.weights
        models = contestants(root, own, model, name)
        device = paint_and_judge.with_options(task_runner=where)(
            root, models, config, scorers, mirror, [pairs], heldout, runner, max_workers
        )
        return evaluate_task(root, own, model, name, config, scorers, mirror, pairs, heldout, agreement, device)


def held_out(preset: PresetName, source: str | None, weights: str | None, store: str | None) -> str | None:
    """URI of the preset's held-out pairs, ingested; None where it has none, or none that such a run uses."""
    config = held_out_pairs(preset, source, weights)
    return ingest_flow(preset, config.source, config.split, store=store).uri if config else None
