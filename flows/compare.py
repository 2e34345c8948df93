"""`compare`: any two or more models on the same prompts and seeds, with intervals and a report."""

from __future__ import annotations

from prefect import flow

from pipeline_lib.config import override
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from pipeline_lib.registry import unknown_name
from tasks.compare import compare as compare_task
from tasks.contenders import find_models
from tasks.outcome import Outcome
from tasks.settings import store_url


@flow(name="compare")
def compare(
    models: list[str] | None = None,
    reference: str | None = None,
    preset: PresetName = "shapes",
    prompts: str | None = None,
    num_prompts: int | None = None,
    seeds: list[int] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    scorers: list[str] | None = None,
    weights: str | None = None,
    heldout: str | None = None,
    store: str | None = None,
) -> Outcome:
    """Compare models with one of them: win rates by every reward model, a report, and a run in MLflow.

    Images and scores that an evaluation left in the store are taken from there.

    Args:
        models: Two or more of: base (the preset's); models:/<name>@<alias> or models:/<name>/<version> from MLflow's
            registry; model/<key> or the URI of a model dataset; a folder of diffusers, or one that training wrote;
            <org>/<name>@<revision> on the hub. Empty for base and models:/balanced-<preset>@candidate.
        reference: Which of them the others are compared with; empty for the first.
        preset: Base model, prompt set, sampler and scorers; empty fields below take its values.
        prompts: Prompt set, heldout for the prompts of the pairs in `heldout`, or a file of prompts.
        num_prompts: At most this many prompts.
        seeds: Images per prompt, one for each seed.
        steps: Sampling steps.
        guidance: Classifier-free guidance scale.
        scorers: Reward models that judge.
        weights: Where reward-model checkpoints come from.
        heldout: URI of an ingest dataset of pairs that were not trained on.
        store: Dataset store; empty for the machine's default.
    """
    chosen, store = find_preset(preset), store_url(store)
    names = models or ["base", f"models:/balanced-{preset}@candidate"]
    if reference is not None and reference not in names:
        raise unknown_name("reference", reference, names)
    config = override(
        chosen.evaluate,
        prompts=prompts,
        num_prompts=num_prompts,
        seeds=tuple(seeds) if seeds else None,
        steps=steps,
        guidance=guidance,
    )
    found = find_models(store, chosen.base, names)
    return compare_task(
        store,
        found,
        found[names.index(reference or names[0])],
        config,
        scorers or list(chosen.scorers),
        weights or chosen.weights,
        heldout,
    )
