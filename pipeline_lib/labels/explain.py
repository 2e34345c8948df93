"""A recipe in words."""

from __future__ import annotations

from pipeline_lib.labels.recipes import Recipe, steps_of
from pipeline_lib.labels.steps import listed


def explain(recipe: Recipe) -> str:
    """What the recipe does, a numbered line per step, and whose scores it needs; raises as `steps_of`."""
    steps = steps_of(recipe)
    lines = [f"{i}. {step.name}: {step.words()}" for i, step in enumerate(steps, start=1)]
    scorers = list(dict.fromkeys(scorer for step in steps for scorer in step.scorers()))
    needs = f"Needs scores by {listed(scorers)}." if scorers else "Needs no scores."
    complete = list(dict.fromkeys(scorer for step in steps for scorer in step.complete()))
    if complete:
        lines.insert(0, f"0. scores: Drop pairs with an image that {' or '.join(complete)} gave no finite score.")
    return "\n".join([*lines, needs])
