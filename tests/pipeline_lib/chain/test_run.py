"""The chain by itself: what is made for which product, in which order, and where a new stage comes in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib import chain
from pipeline_lib.chain import STAGES, Stage, Walk
from pipeline_lib.chain.run import needed
from pipeline_lib.core.errors import ConfigError, LabelError, UnknownNameError
from pipeline_lib.core.store import writer


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> chain.Plan:
    folder = tmp_path_factory.mktemp("chain")
    return chain.plan("shapes", "dpo", store=str(folder / "store"), scratch=folder / "scratch")


def walked(plan: chain.Plan, goal: str, stages: Any = STAGES, there: Any = None) -> tuple[list[str], Any]:
    """The stages that run towards a product, in order, and the product: here what each was made from, in words."""
    order: list[str] = []

    def make(stage: Stage, found: Any) -> Any:
        order.append(stage.name)
        return None if stage.gives == "held_out" else _Words(f"{stage.name}({', '.join(map(str, found.values()))})")

    return order, Walk(plan, make, there or {}, stages).product(goal)


class _Words(str):
    created = 0.0


@pytest.mark.parametrize(
    ("goal", "order"),
    [
        ("pairs", ["ingest"]),
        ("encoded", ["ingest", "encode"]),
        ("labels", ["ingest", "score", "self-train", "label"]),
        ("model", ["ingest", "score", "self-train", "label", "encode", "train"]),
        (
            "evaluation",
            ["ingest", "hold-out", "score", "agree", "self-train", "label", "encode", "train", "evaluate"],
        ),
    ],
)
def test_what_a_product_needs_is_made_before_it_and_nothing_else(
    plan: chain.Plan, goal: str, order: list[str]
) -> None:
    assert walked(plan, goal)[0] == order


def test_a_recipe_that_reads_self_training_has_the_latents_before_its_labels(plan: chain.Plan) -> None:
    assert walked(replace(plan, recipe="dedpo25-self"), "labels")[0] == [
        "ingest",
        "score",
        "encode",
        "self-train",
        "label",
    ]


def test_what_is_there_is_not_made(plan: chain.Plan) -> None:
    order, made = walked(plan, "model", there={"labels": _Words("mine"), "encoded": _Words("latents")})
    assert order == ["train"] and made == "train(mine, latents)"


def test_a_new_stage_between_label_and_train_is_one_entry(plan: chain.Plan) -> None:
    place = [stage.name for stage in STAGES].index("train")
    halve = Stage("halve", "labels", lambda plan: ("labels",), "labels", lambda plan, found, report: None)
    order, made = walked(plan, "model", (*STAGES[:place], halve, *STAGES[place:]))
    assert order[-3:] == ["halve", "encode", "train"]
    assert str(made).startswith("train(halve(label(")


def test_only_an_evaluation_scores_by_all_scorers(plan: chain.Plan) -> None:
    assert "agreement" in needed(plan, "evaluation") and "agreement" not in needed(plan, "model")


def test_an_unknown_product_is_refused_with_those_that_there_are(plan: chain.Plan) -> None:
    with pytest.raises(ConfigError, match="No stage of the chain gives laurels") as caught:
        chain.products(plan, "laurels")
    assert "labels" in caught.value.remedy


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"preset": "shape"}, UnknownNameError, "shapes"),
        ({"method": "dpp"}, UnknownNameError, "dpo"),
        ({"train": {"betta": 1}}, UnknownNameError, "beta"),
        ({"train": {"steps": "many"}}, ConfigError, "steps"),
        ({"train": {"learning_rate": -1.0}}, ConfigError, "learning_rate"),
        ({"evaluate": {"gate_average": 2}}, ConfigError, "gate"),
        ({"scorers": ["clipp"]}, UnknownNameError, "clip"),
        ({"recipe": "[{flip: 0.1}]"}, LabelError, "target"),
        ({"base": "models:/balanced-sdxl@champion"}, ConfigError, "MLflow"),
        ({"base": "/no/such/folder"}, ConfigError, "no such folder"),
        ({"given": {"laurels": "x"}}, ConfigError, "laurels"),
        ({"scorer_source": "/no/mirror"}, Exception, "/no/mirror"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    asked: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        chain.plan(**{"store": str(tmp_path), "scratch": tmp_path / "scratch", **asked})
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_dataset_of_another_stage_is_refused(tmp_path: Path) -> None:
    other = writer(str(tmp_path), "notes", 1, {}).commit([])
    with pytest.raises(ConfigError, match="notes"):
        chain.plan(store=str(tmp_path), scratch=tmp_path, given={"labels": other.uri})
