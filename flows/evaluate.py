"""`evaluate`: an aligned model against its base, on held-out prompts, with intervals and a report."""

from __future__ import annotations

from prefect import flow

from flows.ingest import ingest
from flows.paint import paint_and_judge
from flows.train import TRAINING_FLOWS
from pipeline_lib.chain.given import check_given
from pipeline_lib.chain.mirrors import check_prompts, held_out_pairs
from pipeline_lib.core.code import recomputing
from pipeline_lib.core.config import override
from pipeline_lib.core.store import open_dataset
from pipeline_lib.presets import MethodName, PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.base import base_model, check_trained_on, checked_base
from tasks.evaluate import contestants, trained_name
from tasks.evaluate import evaluate as evaluate_task
from tasks.fields import Count, FileLocation, Guidance, Location, Seed, Share, Timesteps, Workers
from tasks.held_out import check_held_out
from tasks.outcome import Outcome
from tasks.run_names import flow_run_name
from tasks.runners import RunnerName, task_runner
from tasks.settings import store_url


@flow(name="evaluate", flow_run_name=flow_run_name)
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
    source: Location | None = None,
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
        preset: Base model, prompt set, sampler and scorers; empty fields below take its values.
        method: Method whose training flow is run, when `model` is empty.
        seed: Training seed, when `model` is empty.
        prompts: Prompt set (shapes-heldout, pickapic-validation-unique, pickapic-test-unique, partiprompts, hpdv2,
            drawbench), heldout for the prompts of the pairs in `heldout`, or a file of prompts.
        num_prompts: At most this many prompts.
        steps: Sampling steps.
        guidance: Classifier-free guidance scale.
        gate_average: For @champion the average win rate must lie above this share (0.5) with its whole interval.
        gate_scorer: For @champion no single scorer's win rate may lie below this share (0.45) with its whole interval.
        source: Source of pairs, when `pairs` is empty: folder of Parquet, s3://..., hf://datasets/..., shapes://pairs.
        weights: Where reward-model checkpoints come from. A mirror also means that no prompts and no held-out pairs
            are fetched from the hub unless `prompts` and `heldout` name them.
        model: URI of a model dataset; empty runs the method's training flow.
        pairs: URI of the ingest dataset the model was trained on, for the check that no prompt was seen in training.
        heldout: URI of an ingest dataset of pairs that were not trained on, such as another split of the source, for
            the accuracy of the implicit reward; empty for the preset's, if it has any and pairs and `weights` are its.
        agreement: URI of an agreement dataset, the comparison of scorers with people, to be summed up in the report.
        base: Base model of the same family instead of the preset's: <org>/<name>@<revision>, a local folder,
            or an MLflow model URI such as models:/balanced-sdxl@champion.
        runner: thread paints and scores in this process; ray on the workers of a Ray cluster, a GPU each where there
            are GPUs.
        address: Ray cluster: host:port or auto on one of its nodes, ray://host:10001 from outside; empty starts one
            on this machine.
        max_workers: Shards of images painted, and then scored, at a time; empty for one per GPU, on the CPU one per
            core for painting (thread), or all that the cluster has room for (ray).
        store: Dataset store; empty for the machine's default.
        force: Make again what other code made; the log says so where it is used. What is there stays.
    """
    where = task_runner(runner, address)
    chosen = find_preset(preset)
    check_prompts(preset, prompts, num_prompts, weights)
    check_given(
        prompts=prompts or chosen.evaluate.prompts,
        num_prompts=num_prompts,
        weights=weights,
        model=model,
        pairs=pairs,
        heldout=heldout,
        agreement=agreement,
        base=base,
    )
    with recomputing(force):
        base = checked_base(preset, base, steps=steps or chosen.evaluate.steps)
        if model:
            check_trained_on(preset, base, model)
        pairs = pairs or ingest(preset, source, store=store).uri
        heldout = heldout or held_out(preset, open_dataset(pairs).config["source"], weights, store)
        if heldout:
            check_held_out(heldout, [pairs])
        if model is None:
            trained = TRAINING_FLOWS[method](preset, seed=seed, weights=weights, pairs=pairs, base=base, store=store)
            model = trained.outcome.uri
        config = override(
            chosen.evaluate,
            prompts=prompts,
            num_prompts=num_prompts,
            steps=steps,
            guidance=guidance,
            gate_average=gate_average,
            gate_scorer=gate_scorer,
        )
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
    return ingest(preset, config.source, config.split, store=store).uri if config else None
