"""The recipes of the models that judge for a recipe which reads self-training."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from pipeline_lib.core.errors import LabelError, UnknownNameError
from pipeline_lib.labels.calibration import fold_of
from pipeline_lib.labels.recipe import check_recipe
from pipeline_lib.labels.self_training import fold_recipes, folds_held_out, reads_self_training, runnable
from tests.pipeline_lib.labels.tables import label, random_frame

REVEAL = {"reveal": 0.25, "seed": 7}
SELF = {"pseudo_label": "self-training", "folds": 3, "seed": 4}


def test_each_is_trained_on_the_revealed_labels_of_the_prompts_outside_its_fold() -> None:
    table = random_frame(400)
    revealed, _ = label(table, [REVEAL, {"filter": "unlabelled"}, {"single": "human"}])
    seen: list[set[str]] = []
    for fold, recipe in enumerate(fold_recipes([REVEAL, SELF, "dedpo"])):
        labels, _ = label(table, recipe)
        outside = revealed.filter(pl.Series(fold_of(revealed["prompt_id"], 3, 4) != fold))
        assert labels["pair_id"].to_list() == outside["pair_id"].to_list()
        assert labels["target"].to_list() == outside["target"].to_list()
        seen.append(set(labels["pair_id"]))
    assert len(seen) == 3 and all(len(found) < 100 for found in seen)
    assert set.intersection(*seen) == set() and len(set.union(*seen)) == 100


def test_the_named_recipe_has_two() -> None:
    assert reads_self_training("dedpo25-self") and not reads_self_training("dedpo25")
    recipes = fold_recipes("dedpo25-self")
    assert [[next(iter(step)) for step in recipe] for recipe in recipes] == [
        ["filter", "reveal", "split", "single"]
    ] * 2
    assert [recipe[1]["reveal"] for recipe in recipes] == [{"fraction": 0.25, "seed": 7}] * 2
    splits = folds_held_out(recipes)
    assert splits is not None and [(s.fold, s.folds) for s in splits] == [(0, 2), (1, 2)]


@pytest.mark.parametrize(
    ("recipe", "before", "folds"),
    [
        ([{"vote": ["self-training", "human"]}], [], 5),
        ([{"filter": {"margin": {"clip": 0.1}}}, {"soft": "self-training", "folds": 2}], ["filter"], 2),
        ([{"vote": ["clip"]}, {"filter": {"margin": {"self-training": 0.1}}}], [], 5),
        ([{"split": 0, "folds": 4}, SELF, "mix", {"flip": 0.1}], ["split"], 3),
    ],
)
def test_whatever_step_reads_it_they_have_the_steps_above(recipe: Any, before: list[str], folds: int) -> None:
    found = fold_recipes(recipe)
    assert [[next(iter(step)) for step in one] for one in found] == [[*before, "split", "single"]] * folds
    assert folds_held_out(found) is not None


def test_labels_that_are_hidden_later_would_leak() -> None:
    with pytest.raises(LabelError, match=r"(?s)Step 2 \(reveal\).*models of step 1.*above step 1"):
        fold_recipes([SELF, REVEAL, "dedpo"])
    with pytest.raises(LabelError, match="reads self-training"):
        fold_recipes("dedpo25")


def test_folds_are_told_from_models_that_only_look_alike() -> None:
    first, second, third = fold_recipes([REVEAL, SELF, "dedpo"])
    found = folds_held_out([third, first, second])
    assert found is not None and [split.fold for split in found] == [2, 0, 1]
    other = fold_recipes([{**REVEAL, "seed": 8}, SELF, "dedpo"])[2]
    seed = fold_recipes([REVEAL, {**SELF, "seed": 5}, "dedpo"])[2]
    only = [{"split": 2, "folds": 3, "keep": "fold"}, {"single": "human"}]
    for models in ([first, second], [first, second, second], [first, second, other], [first, second, seed]):
        assert folds_held_out(models) is None
    assert folds_held_out([only]) is None and folds_held_out(["human"]) is None


def test_flows_can_make_it_and_the_label_stage_alone_cannot() -> None:
    assert check_recipe("dedpo25-self", (), runnable()) == ["self-training"]
    with pytest.raises(LabelError, match=r"(?s)Step 3 \(pseudo_label\).*needs scores by.*flow self-training"):
        check_recipe("dedpo25-self", ())
    with pytest.raises(UnknownNameError):
        fold_recipes("dedpo25-sel")
