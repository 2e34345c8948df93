"""`label`: votes and scores to training targets, by a recipe."""

from __future__ import annotations

from prefect import flow

from flows.ingest import ingest as ingest_flow
from flows.score import score
from flows.self_training import annotated
from pipeline_lib.chain.given import check_given
from pipeline_lib.core.code import recomputing
from pipeline_lib.labels.recipe import check_recipe
from pipeline_lib.labels.self_training import runnable
from pipeline_lib.presets import MethodName, PresetName, alignment
from tasks.fields import Count, Location, ScoreUris, SourceLocation, Text
from tasks.label import label as label_task
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.run_names import flow_run_name
from tasks.settings import store_url
from tasks.values import IngestSettings, JudgeSettings, Recipe


@flow(name="label", flow_run_name=flow_run_name)
@described
def label(
    preset: PresetName = "shapes",
    method: MethodName = "balanced",
    recipe: Recipe | None = None,
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    ingest: IngestSettings | None = None,
    weights: Location | None = None,
    pairs: Location | None = None,
    scores: ScoreUris | None = None,
    judge: JudgeSettings | None = None,
    store: Location | None = None,
    force: bool = False,
) -> Outcome:
    """Turn human votes and scores into training targets.

    Args:
        method: Method whose default recipe is used when `recipe` is empty.
        scores: URIs of score datasets by scorer; scorers that the recipe needs and that are missing here are run.
            For self-training, models are trained by the preset's train-dpo, one per fold.
    """
    recipe = recipe or alignment(preset, method).labels
    needed = check_recipe(recipe, scores or {}, runnable())
    check_given(weights=weights, pairs=pairs, scores=scores)
    with recomputing(force):
        pairs = pairs or ingest_flow(preset, source, split, limit, ingest=ingest, store=store).uri
        config = alignment(preset, "dpo").train
        found = annotated(preset, recipe, config, pairs, scores, weights=weights, judge=judge, store=store)
        found = {name: uri for name, uri in found.items() if name in needed}
        if missing := [name for name in needed if name not in found]:
            outcomes = score(preset, scorers=missing, weights=weights, pairs=pairs, store=store)
            found |= {name: outcome.uri for name, outcome in outcomes.items()}
        return label_task(store_url(store), recipe, pairs, found)
