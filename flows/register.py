"""`register`: an evaluated model into MLflow's registry, as a plain diffusers folder."""

from __future__ import annotations

from prefect import flow

from flows.evaluate import evaluate
from flows.train import TRAINING_FLOWS
from pipeline_lib.chain.given import check_given
from pipeline_lib.chain.mirrors import check_prompts
from pipeline_lib.core.code import recomputing
from pipeline_lib.presets import MethodName, PresetName
from tasks.base import base_model, check_trained_on, checked_base
from tasks.evaluate import trained_name
from tasks.fields import FileLocation, Location
from tasks.register import register as register_task
from tasks.run_names import flow_run_name


@flow(name="register", flow_run_name=flow_run_name)
def register(
    preset: PresetName = "shapes",
    method: MethodName = "balanced",
    model: Location | None = None,
    evaluation: Location | None = None,
    source: Location | None = None,
    weights: Location | None = None,
    prompts: FileLocation | None = None,
    base: Location | None = None,
    store: Location | None = None,
    force: bool = False,
) -> str:
    """Publish a model version with lineage tags, metrics and the alias `candidate`. Its name is that of the loss that
    trained it and the preset, such as `dpo-sdxl` or `ipo-sdxl`.

    It also becomes the `champion` when its evaluation passes the gate against the present champion, or, while there is
    none, against the base; unless it has been the champion before and the alias was taken from it.

    Args:
        preset: Base model of the run.
        method: Method whose training flow is run, when `model` is empty.
        model: URI of a model dataset; empty runs the method's training flow.
        evaluation: URI of its evaluation dataset; empty runs evaluate.
        source: Source of pairs, when `model` is empty.
        weights: Where reward-model checkpoints come from, when `model` or `evaluation` is empty.
        prompts: Prompt set or file of prompts, when `evaluation` is empty.
        base: Base model of the same family instead of the preset's: <org>/<name>@<revision>, a local folder,
            or an MLflow model URI such as models:/balanced-sdxl@champion.
        store: Dataset store; empty for the machine's default.
        force: Make again what other code made; the log says so where it is used. What is there stays.
    """
    if evaluation is None:
        check_prompts(preset, prompts, None, weights)
    check_given(model=model, evaluation=evaluation, prompts=prompts, weights=weights, base=base)
    base, pairs = checked_base(preset, base), None
    if model:
        check_trained_on(preset, base, model)
    with recomputing(force):
        if model is None:
            trained = TRAINING_FLOWS[method](preset, source=source, weights=weights, base=base, store=store)
            model, pairs = trained.outcome.uri, trained.pairs
        if evaluation is None:
            evaluation = evaluate(
                preset,
                method,
                prompts=prompts,
                source=source,
                weights=weights,
                model=model,
                pairs=pairs,
                base=base,
                store=store,
            ).uri
        return register_task(trained_name(preset, model), base_model(preset, base), model, evaluation)
