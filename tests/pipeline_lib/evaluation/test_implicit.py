"""What a trained model prefers among held-out pairs of the built-in world, and how often people agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from diffusers import UNet2DConditionModel

from pipeline_lib.core import store
from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import EvaluationError, UnknownNameError
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.data.ingest import ingest
from pipeline_lib.evaluation import evaluate
from pipeline_lib.evaluation.implicit import (
    REWARD,
    implicit_accuracy,
    implicit_rewards,
    judged_by_prompt,
    trained_prompts,
)
from pipeline_lib.models.components import folder
from pipeline_lib.presets import preset
from pipeline_lib.training import implicit as judging
from pipeline_lib.training.implicit import unlabelled
from pipeline_lib.training.tables import open_tables
from tests.pipeline_lib.training.by_hand import logits_by_hand

SHAPES = preset("shapes")
CONFIG = replace(SHAPES.evaluate, steps=2, num_prompts=4, implicit_draws=2, implicit_seed=5)
TRAIN = TrainConfig(method="diffusion-dpo", adapter="full", beta=500.0, steps=4, batch_size=8, learning_rate=1e-4)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def held_out(root: str) -> Dataset:
    assert SHAPES.held_out is not None
    return ingest(root, replace(SHAPES.held_out, limit=40))


@pytest.fixture(scope="module")
def model(root: str) -> Callable[[float], Dataset]:
    """What training leaves: the base's weights, moved by noise of that share of each one's spread."""

    def make(noise: float) -> Dataset:
        w = store.writer(root, "model", 1, {"train": asdict(TRAIN), "noise": noise})
        if done := w.finished():
            return done
        unet = UNet2DConditionModel.from_pretrained(folder(SHAPES.base, ["unet"]) / "unet")
        drawn = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in unet.parameters():
                weight += noise * weight.std(unbiased=False) * torch.randn(weight.shape, generator=drawn)
        out = Path(root, "scratch", w.key)
        unet.save_pretrained(out / "unet")
        (out / "base.json").write_text(json.dumps(asdict(SHAPES.base)))
        return w.commit(w.write_folder("model", out))

    return make


@pytest.fixture(scope="module")
def rewards(root: str, held_out: Dataset, model: Callable[[float], Dataset]) -> Dataset:
    return implicit_rewards(root, model(0.05), SHAPES.base, held_out, CONFIG)


def test_the_reward_is_the_mean_logit_written_out(
    tmp_path: Path, rewards: Dataset, held_out: Dataset, model: Callable[[float], Dataset]
) -> None:
    """The pairs that people decided, one of them with diffusers' UNets and errors by hand."""
    pairs = held_out.scan("pairs").collect()
    found = rewards.scan().collect()
    decided = pairs.filter(pl.col("label_0") != 0.5)
    assert 0 < len(decided) < len(pairs) and found["pair_id"].to_list() == decided["pair_id"].to_list()
    assert found["human"].to_list() == decided["label_0"].to_list()
    assert rewards.counts == {"pairs": len(pairs), "decided": len(decided)}
    encoded = open_dataset(f"{Path(rewards.uri).parents[1]}/{rewards.inputs[1]['uri']}")
    tables = open_tables(encoded, unlabelled(decided[[7]]), tmp_path)
    logits = logits_by_hand(SHAPES.base, model(0.05).local("model/unet"), tables, 0, (250, 750), 5, TRAIN.beta)
    assert found[REWARD][7] == pytest.approx(np.mean(logits), rel=1e-3, abs=1e-4)
    assert abs(found[REWARD][7]) > 1e-3


def test_one_thread_judges_so_that_other_cores_give_the_same_bytes(
    root: str, held_out: Dataset, model: Callable[[float], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    plain = judging.pixel_error

    def counted(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        threads.append(torch.get_num_threads())
        return plain(prediction, target)

    monkeypatch.setattr(judging, "pixel_error", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        implicit_rewards(root, model(0.05), SHAPES.base, held_out, replace(CONFIG, implicit_seed=6))
        assert (set(threads), torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(before)


def test_a_model_that_is_its_base_prefers_nothing(
    root: str, held_out: Dataset, model: Callable[[float], Dataset]
) -> None:
    found = implicit_accuracy(implicit_rewards(root, model(0.0), SHAPES.base, held_out, CONFIG))
    share, low, high = found["accuracy"]
    assert share == 0.5 and low < 0.5 < high
    assert found["undecided"] == found["pairs"]


def made(root: Path, rows: list[tuple[str, float, float]]) -> Dataset:
    """A dataset of rewards from (prompt id, human, reward)."""
    frame = pl.DataFrame(rows, ["prompt_id", "human", REWARD], orient="row").with_row_index("pair_id")
    w = store.writer(str(root), "implicit", 1, {"rows": [list(row) for row in rows]})
    return w.commit([w.write_table("part-00000.parquet", frame.cast({"pair_id": pl.String}).to_arrow())])


def test_accuracy_counts_agreement_with_people(tmp_path: Path) -> None:
    rows = [("a", 1.0, 0.2), ("a", 1.0, 0.1), ("b", 0.0, -3.0), ("c", 1.0, -0.1), ("c", 0.0, 0.0), ("d", 0.0, 0.4)]
    found = implicit_accuracy(made(tmp_path, rows))
    assert found["accuracy"][0] == pytest.approx(3.5 / 6)
    assert found["accuracy"][1] < 3.5 / 6 < found["accuracy"][2]
    assert (found["pairs"], found["prompts"], found["undecided"], found["leaked"]) == (6, 4, 1, 0)
    swapped = implicit_accuracy(made(tmp_path, [(prompt, 1 - human, -reward) for prompt, human, reward in rows]))
    assert swapped == found, "swapping the images of every pair changes nothing"
    part = implicit_accuracy(made(tmp_path, rows), {"c", "d"})
    assert (part["accuracy"][0], part["pairs"], part["leaked"]) == (1.0, 3, 3)
    with pytest.raises(EvaluationError, match=r"Only 1 prompts .* 4 of 6"):
        implicit_accuracy(made(tmp_path, rows), {"b", "c", "d"})


def pairs_by(root: Path, generators: list[tuple[str | None, str | None]]) -> Dataset:
    """An ingest's pairs, of which only the generators matter here."""
    frame = pl.DataFrame(generators, {"model_0": pl.String, "model_1": pl.String}, orient="row")
    frame = frame.with_row_index("pair_id").cast({"pair_id": pl.String})
    w = store.writer(str(root), "ingest", 1, {"generators": [list(row) for row in generators]})
    return w.commit([w.write_table("pairs/part-00000.parquet", frame.to_arrow())])


def test_shares_judged_right_by_prompt_and_generator(tmp_path: Path) -> None:
    rows = [("b", 1.0, 0.2), ("b", 1.0, -0.1), ("a", 0.0, -3.0), ("c", 0.0, 0.0), ("c", 0.0, 0.4), ("c", 1.0, 0.0)]
    generators = [("m", "m"), ("n", "m"), ("m", "n"), (None, "n"), ("k", None), (None, None)]
    rewards, held_out = made(tmp_path, rows), pairs_by(tmp_path, generators)
    found = judged_by_prompt(rewards, held_out)
    assert list(found.items()) == [("a", 1.0), ("b", 0.5), ("c", pytest.approx(1 / 3))]
    assert judged_by_prompt(rewards, held_out, generator="m") == {"a": 1.0, "b": 0.5}
    assert judged_by_prompt(rewards, held_out, generator="n") == {"a": 1.0, "b": 0.0, "c": 0.5}
    assert judged_by_prompt(rewards, held_out, {"a", "b"}, "n") == {"c": 0.5}
    every = np.repeat(list(found.values()), [1, 2, 3])
    assert np.mean(every) == pytest.approx(implicit_accuracy(rewards)["accuracy"][0])
    with pytest.raises(UnknownNameError, match=r"generator .*\n.*k, m, n"):
        judged_by_prompt(rewards, held_out, generator="q")
    with pytest.raises(EvaluationError, match="all 3 held-out pairs by m were trained on"):
        judged_by_prompt(rewards, held_out, {"a", "b"}, "m")
    with pytest.raises(EvaluationError, match="2 of 6 pairs judged are not among"):
        judged_by_prompt(rewards, pairs_by(tmp_path, generators[:4]))


def test_held_out_pairs_of_the_built_in_world_name_their_generators(rewards: Dataset, held_out: Dataset) -> None:
    pairs = held_out.scan("pairs").filter(pl.col("label_0") != 0.5).collect()
    one = pairs["model_0"][0]
    by_one = pairs.filter((pl.col("model_0") == one) | (pl.col("model_1") == one))
    assert 0 < len(by_one) < len(pairs), "the generator must leave pairs out for this test to mean anything"
    assert set(judged_by_prompt(rewards, held_out, generator=one)) == set(by_one["prompt_id"])
    assert set(judged_by_prompt(rewards, held_out)) == set(pairs["prompt_id"])


def test_prompts_that_were_trained_on_are_found(tmp_path: Path, held_out: Dataset) -> None:
    assert trained_prompts(held_out, [ingest(str(tmp_path), replace(SHAPES.ingest, limit=40))]) == set()
    everything = set(held_out.scan("pairs").select("prompt_id").collect()["prompt_id"])
    assert trained_prompts(held_out, [held_out]) == everything


def test_an_evaluation_reports_it_for_models_that_were_trained_here(
    root: str, held_out: Dataset, model: Callable[[float], Dataset], rewards: Dataset
) -> None:
    models = {"base": None, "aligned": model(0.05)}
    scorers, weights = ["clip"], SHAPES.weights
    done = evaluate(root, models, SHAPES.base, CONFIG, scorers, weights, held_out=held_out)
    with done.open("report.json") as file:
        report = json.load(file)
    assert report["implicit"] == {"aligned": implicit_accuracy(rewards)}
    assert rewards.path() in {dataset["uri"] for dataset in report["lineage"]}
    assert report["settings"]["implicit_draws"] == 2 and "implicit_accuracy" in report["statistics"]
    with done.open("report.html") as file:
        assert b"by its implicit reward, aligned agrees with people on" in file.read()
    without = evaluate(root, models, SHAPES.base, CONFIG, scorers, weights)
    with without.open("report.json") as file:
        report = json.load(file)
    assert report["implicit"] == {} and "implicit_draws" not in report["settings"]
