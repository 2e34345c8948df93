"""Commands that run the chain towards a product."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline_lib.chain.run import Walk
from pipeline_lib.cli.values import dotted_options, joined, settings_file
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.core.store import open_dataset

GOALS = {
    "align": ("evaluation", "Run the whole chain: pairs, scores, labels, latents, a trained model, its evaluation."),
    "ingest": ("pairs", "Read a source of preference pairs: checked pairs, unique images, quarantine."),
    "score": ("scores", "Score every image of the pairs by every reward model."),
    "label": ("labels", "Turn votes and scores into training targets, by a recipe."),
    "encode": ("encoded", "Encode images and prompts as the base model sees them."),
    "train": ("model", "Train a model on preference pairs."),
    "evaluate": ("evaluation", "Compare a model (--given.model <URI>) with its base on held-out prompts."),
}
"""Command -> the product that it ends with, and what it says of itself."""


def run(goal: str, options: Mapping[str, Any], words: Sequence[str], config: Path | None, as_json: bool) -> None:
    """Run the chain towards `goal`, show how it goes, and print what came out.

    Args:
        options: by name as `chain.plan` has them; None for those that were not given.
        words: what else stands on the command line.
        config: a YAML file of the same names.
    """
    from pipeline_lib import chain
    from pipeline_lib.cli.bars import shown, steps_table

    given = joined(settings_file(config), joined(options, dotted_options(words)))
    known = list(signature(chain.plan).parameters)
    for name in given:
        if name not in known:
            raise unknown_name("setting", name, known)
    if isinstance(given.get("scorers"), str):
        given["scorers"] = [name.strip() for name in given["scorers"].split(",")]
    state = Path(os.environ.get("PIPELINE_STATE", ".state")).resolve()
    given = {"store": str(state / "store"), "scratch": state / "scratch", **given}
    given["scratch"] = Path(given["scratch"])
    if isinstance(given.get("recipe"), str):
        given["recipe"] = recipe_of(given["recipe"])
    plan = chain.plan(**given)
    console = Console(stderr=as_json)
    with shown(console) as report:
        walk = chain.walk(plan, goal, report)
    if as_json:
        Console().print_json(json.dumps(_as_json(walk, goal)))
        return
    console.print(steps_table(list(walk.steps.values())))
    if goal == "evaluation":
        console.print(headline_of(walk.product(goal).uri), highlight=False, markup=False)


def recipe_of(text: str) -> str:
    """A recipe's name or YAML, or what a file of the suffix .yaml or .yml holds; raises ConfigError."""
    if not text.endswith((".yaml", ".yml")):
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{text} cannot be read: {error}.", "Give a recipe's name, YAML text, or a file.") from error


def headline_of(uri: str) -> str:
    """The headline of an evaluation, and where its page lies; raises ConfigError for another dataset."""
    from pipeline_lib.evaluation.headline import headline
    from pipeline_lib.evaluation.stage import REPORT_HTML, REPORT_JSON

    dataset = open_dataset(uri)
    if dataset.stage != "evaluation":
        raise ConfigError(f"{uri} is a dataset of the stage {dataset.stage}.", "Give one of the stage evaluation.")
    with dataset.open(REPORT_JSON) as file:
        return f"{headline(json.load(file))}\n{dataset.uri}/{REPORT_HTML}"


def _as_json(walk: Walk, goal: str) -> dict[str, Any]:
    stages = [
        {
            "stage": step.stage,
            "ran": step.ran,
            "seconds": round(step.seconds, 2),
            "datasets": [{"uri": dataset.uri, "digest": dataset.digest} for dataset in step.datasets()],
        }
        for step in walk.steps.values()
    ]
    return {"goal": goal, "stages": stages}
