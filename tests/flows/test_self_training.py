"""A recipe that reads self-training: the flows train the models that judge, on other prompts' revealed labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlflow import MlflowClient

from flows import align, label, self_training, train
from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.presets import alignment
from pipeline_lib.training.unseen import labels_of, seen_pairs

RECIPE = "dedpo25-self"
ASKED: dict[str, Any] = {"steps": 2, "limit": 150, "seed": 3, "train": {"batch_size": 4, "milestones": [1]}}


@pytest.fixture
def servers(api: None, stack: dict[str, str], tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", stack["MLFLOW_TRACKING_URI"])
        patch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
        yield


def input_of(dataset: Dataset, stage: str) -> Dataset:
    (found,) = [one["uri"] for one in dataset.inputs if one["uri"].startswith(f"{stage}/")]
    return open_dataset(f"{dataset.uri.removesuffix(dataset.path())}{found}")


@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("servers")
def test_a_training_makes_its_own_annotator_by_cross_fitting(tmp_path: Path, stack: dict[str, str]) -> None:
    store = tmp_path / "store"
    trained = train.train_dedpo(recipe=RECIPE, store=str(store), **ASKED)
    labels = labels_of(open_dataset(trained.outcome.uri))
    table = labels.scan().collect()
    assert labels.counts["n_l"] == round(0.25 * labels.counts["kept"]) and table["g_hat"].null_count() == 0
    assert table["g_hat"].n_unique() > len(table) / 2, "log-odds of models that have moved from their base"

    judged = input_of(labels, "scores-self-training")
    models = [open_dataset(f"{store}/{one['uri']}") for one in judged.inputs if one["uri"].startswith("model/")]
    revealed = set(table.filter("is_human")["pair_id"])
    seen = [set(seen_pairs(model)) for model in models]
    assert len(models) == 2 and seen[0] | seen[1] == revealed and not seen[0] & seen[1]
    prompts = dict(table.select("pair_id", "prompt_id").iter_rows())
    assert not {prompts[pair] for pair in seen[0]} & {prompts[pair] for pair in seen[1]}
    for model in models:
        own = {"method": "diffusion-dpo", "steps": 2, "seed": 3, "batch_size": 4}
        assert own.items() <= model.config["train"].items()
        assert labels_of(model).scan().select(pl.col("target") == pl.col("human")).collect().to_series().all()

    server = MlflowClient(stack["MLFLOW_TRACKING_URI"])
    experiment = server.get_experiment_by_name("self-training-shapes")
    assert experiment is not None
    assert len(server.search_runs([experiment.experiment_id])) == 2

    made = sorted(path.name for path in (store / "model").iterdir())
    again = train.train_dedpo(recipe=RECIPE, store=str(store), **ASKED)
    assert again.outcome.status == "skipped" and again.outcome.uri == trained.outcome.uri
    assert sorted(path.name for path in (store / "model").iterdir()) == made and len(made) == 3


class Asked(Exception):
    """Stands in for the work."""


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends a flow with the arguments with which it asks for the annotator."""

    def asks(preset: str, recipe: Any, config: TrainConfig, pairs: str, scores: Any, **given: Any) -> None:
        raise Asked(recipe, config, pairs, scores, given)

    for module in (label, train, align):
        monkeypatch.setattr(module, "annotated", asks)
        monkeypatch.setattr(module, "check_given", lambda **_: None)


@pytest.mark.usefixtures("stopped")
def test_the_models_that_judge_have_the_settings_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(Asked) as asked:
        train.train_dedpo.fn(recipe=RECIPE, beta=7.0, seed=2, pairs="pairs", encoded="encoded", store=str(tmp_path))
    recipe, config, pairs, scores, given = asked.value.args
    assert (recipe, config.beta, config.seed, config.method) == (RECIPE, 7.0, 2, "dedpo")
    assert (pairs, scores, given["encoded"], given["store"]) == ("pairs", None, "encoded", str(tmp_path))
    with pytest.raises(Asked) as asked:
        label.label.fn(recipe=RECIPE, pairs="pairs", store=str(tmp_path))
    assert asked.value.args[1] == alignment("shapes", "dpo").train


def test_nothing_is_trained_for_scores_that_are_given_or_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(*_: Any, **__: Any) -> None:
        raise AssertionError("something ran")

    for name in ("encode_flow", "score", "label_task", "train_task", "self_training_task", "base_model"):
        monkeypatch.setattr(self_training, name, runs)
    config = alignment("shapes", "dedpo").train
    given = {"self-training": "theirs", "clip": "scores"}
    assert self_training.annotated("shapes", RECIPE, config, "pairs", given) == given
    assert self_training.annotated("shapes", "dedpo25", config, "pairs", {"clip": "scores"}) == {"clip": "scores"}
    assert self_training.annotated("shapes", "human", config, "pairs", None) == {}
    with pytest.raises(AssertionError, match="something ran"):
        self_training.annotated("shapes", RECIPE, config, "pairs", {"clip": "scores"})
