"""`register`: an evaluated model into MLflow's registry, as a plain diffusers folder."""

from __future__ import annotations

from prefect import flow

from flows.evaluate import evaluate as evaluate_flow
from flows.train import TRAINING_FLOWS
from pipeline_lib.chain.given import check_given
from pipeline_lib.chain.mirrors import check_prompts
from pipeline_lib.core.code import recomputing
from pipeline_lib.presets import MethodName, PresetName
from tasks.base import base_model, check_trained_on, checked_base
from tasks.evaluate import trained_name
from tasks.fields import FileLocation, Location, SourceLocation
from tasks.parameters import described
from tasks.register import register as register_task
from tasks.run_names import flow_run_name
from tasks.values import EvaluateSettings, IngestSettings


@flow(name="register", flow_run_name=flow_run_name)
@described
def register(
    preset: PresetName = "shapes",
    method: MethodName = "balanced",
    model: Location | None = None,
    evaluation: Location | None = None,
    source: SourceLocation | None = None,
    ingest: IngestSettings | None = None,
    weights: Location | None = None,
    prompts: FileLocation | None = None,
    evaluate: EvaluateSettings | None = None,
    base: Location | None = None,
    store: Location | None = None,
    force: bool = False,
) -> str:
    """Publish a model version with lineage tags, metrics and the alias `candidate`. Its name is that of the loss that
    trained it and the preset, such as `dpo-sdxl` or `ipo-sdxl`.

    It also becomes the `champion` when its evaluation passes the gate against the present champion, or, while there is
    none, against the base; unless it has been the champion before and the alias was taken from it.

    Args:
        method: Method whose training flow is run, when `model` is empty.
        model: URI of a model dataset; empty runs the method's training flow.
        evaluation: URI of its evaluation dataset; empty runs evaluate.
    """
    if evaluation is None:
        check_prompts(preset, prompts or (evaluate or {}).get("prompts"), None, weights)
    check_given(model=model, evaluation=evaluation, prompts=prompts, weights=weights, base=base)
    base, pairs = checked_base(preset, base), None
    if model:
        check_trained_on(preset, base, model)
    with recomputing(force):
        if model is None:
            trained = TRAINING_FLOWS[method](
                preset, source=source, ingest=ingest, weights=weights, base=base, store=store
            )
            model, pairs = trained.outcome.uri, trained.pairs
        if evaluation is None:
            evaluation = evaluate_flow(
                preset,
                method,
                prompts=prompts,
                evaluate=evaluate,
                source=source,
                ingest=ingest,
                weights=weights,
                model=model,
                pairs=pairs,
                base=base,
                store=store,
            ).uri
        return register_task(trained_name(preset, model), base_model(preset, base), model, evaluation)
