"""Cross-fitted self-training: label recipes of the models that judge, each for a fold of prompts that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline_lib.core.errors import LabelError
from pipeline_lib.labels.dedpo import Judge
from pipeline_lib.labels.parse import at_step
from pipeline_lib.labels.recipe import required_scorers
from pipeline_lib.labels.recipes import Recipe, steps_of
from pipeline_lib.labels.samples import Split
from pipeline_lib.labels.steps import HUMAN, SELF_TRAINING, TARGET, Step
from pipeline_lib.labels.votes import Single
from pipeline_lib.scoring.scorers import SCORERS


def runnable() -> list[str]:
    """Scorers whose scores flows can make: reward models and, by training, self-training."""
    return [*SCORERS.names(), SELF_TRAINING]


def reads_self_training(recipe: Recipe) -> bool:
    """Some step reads scores by self-training; raises as `steps_of`."""
    return SELF_TRAINING in required_scorers(recipe)


def fold_recipes(recipe: Recipe) -> list[list[dict[str, Any]]]:
    """Recipes, one per fold, of the labels to train the models on that judge for `recipe`, as plain values.

    They are the recipe's own steps up to the one that reads self-training, then the human labels of the prompts
    outside the fold: what `reveal` hides is hidden from them, too. Folds and their seed are those of the step that
    reads it (pseudo_label or soft), else its defaults.

    Raises:
        UnknownNameError, LabelError: the recipe is not valid, does not read self-training, or reveals too late.
    """
    steps = steps_of(recipe)
    if not reads_self_training(steps):
        raise LabelError("No step of the recipe reads self-training.", "Name it, as in {pseudo_label: self-training}.")
    reader = next(i for i, step in enumerate(steps) if SELF_TRAINING in step.scorers())
    for i, step in enumerate(steps[reader:], start=reader + 1):
        if HUMAN in step.hides:
            hides = LabelError(
                f"it hides human labels that the models of step {reader + 1} would have been trained on.",
                f"Move it above step {reader + 1}.",
            )
            raise at_step(i, step, hides)
    judge = steps[reader] if isinstance(steps[reader], Judge) else Judge((SELF_TRAINING,))
    assert isinstance(judge, Judge)
    target = next(i for i, step in enumerate(steps) if TARGET in step.sets)
    before = steps[: min(reader, target)]
    folds = [Split(fold, judge.folds, seed=judge.seed) for fold in range(judge.folds)]
    return [[step.plain() for step in (*before, fold, Single(HUMAN))] for fold in folds]


def folds_held_out(recipes: Sequence[Recipe]) -> list[Split] | None:
    """The fold that each of the models with these label recipes never saw, where together they are cross-fitted: the
    recipes differ in nothing but the fold of their last `split`, and hold out every fold once. Else None."""
    found: list[Split] = []
    rest: list[tuple[list[Step], tuple[int, int, int]]] = []
    for recipe in recipes:
        steps = steps_of(recipe)
        place = max((i for i, s in enumerate(steps) if isinstance(s, Split) and s.keep == "others"), default=-1)
        last = steps[place]
        if place < 0 or not isinstance(last, Split):
            return None
        found.append(last)
        rest.append((steps[:place] + steps[place + 1 :], (place, last.folds, last.seed)))
    if any(other != rest[0] for other in rest) or sorted(s.fold for s in found) != list(range(found[0].folds)):
        return None
    return found
