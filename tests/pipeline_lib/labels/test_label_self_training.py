"""Self-training: a model trained on revealed labels judges the other pairs, and a recipe reads that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline_lib.core.config import EncodeConfig, JudgeConfig, TrainConfig
from pipeline_lib.core.errors import ConfigError, LabelError
from pipeline_lib.core.store import Dataset
from pipeline_lib.data.ingest import ingest
from pipeline_lib.encoding.stage import encode
from pipeline_lib.labels.calibration import fold_of
from pipeline_lib.labels.recipe import build_labels
from pipeline_lib.presets import preset
from pipeline_lib.training.implicit import judge_pairs
from pipeline_lib.training.launch import job
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.tables import open_tables
from pipeline_lib.training.trainer import train
from pipeline_lib.training.unseen import seen_pairs
from tests.pipeline_lib.training.by_hand import logits_by_hand

SHAPES = preset("shapes")
DECIDED = {"filter": ["ties", "unlabelled"]}
HALF = [DECIDED, {"reveal": 0.5, "seed": 1}]
TRAIN = TrainConfig(
    method="diffusion-dpo", adapter="full", beta=500.0, steps=4, batch_size=8, learning_rate=1e-4, lora_rank=2
)
JUDGE = JudgeConfig(timesteps=2, seed=5, batch_size=16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def pairs(store: str) -> Dataset:
    return ingest(store, replace(SHAPES.ingest, limit=60))


@pytest.fixture(scope="module")
def encoded(store: str, pairs: Dataset) -> Dataset:
    return encode(store, SHAPES.base, EncodeConfig(resolution=32, batch_size=64), pairs)


def trained(
    store: str, pairs: Dataset, encoded: Dataset, recipe: list[object], config: TrainConfig = TRAIN
) -> Dataset:
    """What the train stage leaves, without its process."""
    labels = build_labels(store, recipe, pairs, {})
    w = job.model_writer(store, SHAPES.base, config, encoded, labels)
    run_dir = Path(store, "scratch", w.key)
    train(TrainSpec(model=SHAPES.base, train=config, encoded=encoded.uri, labels=labels.uri, run_dir=str(run_dir)))
    return w.commit(w.write_folder("model", run_dir / "model"))


@pytest.fixture(scope="module")
def model(store: str, pairs: Dataset, encoded: Dataset) -> Dataset:
    """Trained on the revealed half."""
    return trained(store, pairs, encoded, [*HALF, {"filter": "unlabelled"}, {"single": "human"}])


@pytest.fixture(scope="module")
def judged(store: str, model: Dataset, encoded: Dataset, pairs: Dataset) -> Dataset:
    return judge_pairs(store, [model], encoded, pairs, JUDGE)


def test_only_pairs_are_judged_whose_label_the_model_has_not_seen(
    pairs: Dataset, model: Dataset, judged: Dataset
) -> None:
    found = judged.scan("preferences").collect()
    seen = set(seen_pairs(model))
    everything = pairs.scan("pairs").select("pair_id").collect()["pair_id"].to_list()
    assert seen and found["pair_id"].to_list() == [pair for pair in everything if pair not in seen]
    assert judged.counts == {"judged": len(found), "pairs": len(everything), "seen": len(seen)}
    assert found["probability"].is_between(0, 1).all() and found["probability"].n_unique() > len(found) / 2


def test_probability_is_the_mean_sigmoid_written_out(
    tmp_path: Path, model: Dataset, judged: Dataset, encoded: Dataset, pairs: Dataset
) -> None:
    """One pair, with diffusers' UNets of base and trained model and errors by hand."""
    found = judged.scan("preferences").collect()
    pair_id, probability = found.row(3)
    labels = pairs.scan("pairs").filter(pl.col("pair_id") == pair_id).collect()
    columns = {"target": 1.0, "is_human": True, "human": 1.0, "g_hat": 0.5, "weight": 1.0, "flipped": False}
    frame = labels.select("pair_id", "prompt_id", "image_0", "image_1").with_columns(
        pl.lit(value).alias(name) for name, value in columns.items()
    )
    tables = open_tables(encoded, frame, tmp_path)
    logits = logits_by_hand(SHAPES.base, model.local("model/unet"), tables, 0, (250, 750), JUDGE.seed, TRAIN.beta)
    by_hand = np.mean([1 / (1 + np.exp(-z)) for z in logits])
    assert probability == pytest.approx(by_hand, abs=2e-4)
    assert abs(probability - 0.5) > 1e-3


def test_mix_reads_it_and_dedpo_refuses_a_model_that_saw_the_labels(
    store: str, pairs: Dataset, judged: Dataset
) -> None:
    scores = {"self-training": judged}
    labels = build_labels(store, [*HALF, {"pseudo_label": "self-training"}, "mix"], pairs, scores)
    table = labels.scan().collect()
    rest = table.filter(~pl.col("is_human"))
    found = dict(judged.scan("preferences").collect().iter_rows())
    assert [found[pair] for pair in rest["pair_id"]] == pytest.approx(rest["g_hat"].to_list(), abs=1e-6)
    assert ((rest["g_hat"] > 0.5) == (rest["target"] == 1)).all()
    assert table.filter("is_human")["g_hat"].null_count() == table["is_human"].sum() > 0
    with pytest.raises(LabelError, match=r"(?s)Step 4 \(dedpo\).*have no g_hat.*step split"):
        build_labels(store, [*HALF, {"pseudo_label": "self-training"}, "dedpo"], pairs, scores)


def test_a_model_per_fold_judges_every_pair_by_models_that_have_not_seen_it(
    store: str, pairs: Dataset, encoded: Dataset
) -> None:
    """Cross-fitted self-training, by LoRA, end to end: reveal, split, train twice, judge, dedpo."""
    adapter = replace(TRAIN, adapter="lora", steps=2)
    models = [
        trained(
            store,
            pairs,
            encoded,
            [*HALF, {"filter": "unlabelled"}, {"split": k, "folds": 2}, {"single": "human"}],
            adapter,
        )
        for k in (0, 1)
    ]
    both = judge_pairs(store, models, encoded, pairs, JUDGE)
    assert both.counts["seen"] == 0
    alone = [judge_pairs(store, [m], encoded, pairs, JUDGE).scan("preferences").collect() for m in models]
    by_model = [dict(table.iter_rows()) for table in alone]
    prompts = dict(pairs.scan("pairs").select("pair_id", "prompt_id").collect().iter_rows())
    trained_on = [{prompts[pair] for pair in seen_pairs(model)} for model in models]
    assert trained_on[0] and trained_on[1] and not trained_on[0] & trained_on[1]
    judges = set()
    for pair, probability in both.scan("preferences").collect().iter_rows():
        (fold,) = fold_of(pl.Series([prompts[pair]]), 2, 0).tolist()
        assert probability == pytest.approx(by_model[fold][pair], abs=1e-6)
        assert prompts[pair] not in trained_on[fold]
        judges.add(fold)
    assert judges == {0, 1}
    labels = build_labels(store, [*HALF, {"pseudo_label": "self-training"}, "dedpo"], pairs, {"self-training": both})
    assert labels.scan().select(pl.col("g_hat").null_count()).collect().item() == 0
    assert labels.counts["n_l"] + labels.counts["n_u"] == labels.counts["kept"]


def test_models_that_are_no_folds_of_each_other_judge_together(
    store: str, pairs: Dataset, encoded: Dataset, model: Dataset
) -> None:
    """The mean of those that have not seen the pair: one knows half of the labels, the other a part of that half."""
    fewer = [*HALF, {"filter": "unlabelled"}, {"subsample": 0.5}, {"single": "human"}]
    models = [model, trained(store, pairs, encoded, fewer)]
    alone = [
        dict(judge_pairs(store, [m], encoded, pairs, JUDGE).scan("preferences").collect().iter_rows()) for m in models
    ]
    together = dict(judge_pairs(store, models, encoded, pairs, JUDGE).scan("preferences").collect().iter_rows())
    assert set(together) == set(alone[1]) > set(alone[0])
    for pair, probability in together.items():
        assert probability == pytest.approx(np.mean([found[pair] for found in alone if pair in found]), abs=1e-6)


def test_same_question_same_bytes(
    tmp_path: Path, model: Dataset, judged: Dataset, encoded: Dataset, pairs: Dataset
) -> None:
    assert judge_pairs(str(tmp_path), [model], encoded, pairs, JUDGE).digest == judged.digest
    other = judge_pairs(str(tmp_path), [model], encoded, pairs, replace(JUDGE, seed=6))
    assert other.uri != judged.uri and other.digest != judged.digest


def test_nothing_to_judge_is_an_error(store: str, pairs: Dataset, encoded: Dataset, model: Dataset) -> None:
    with pytest.raises(ConfigError, match="no model"):
        judge_pairs(store, [], encoded, pairs)
    with pytest.raises(ConfigError, match="timesteps is 0"):
        judge_pairs(store, [model], encoded, pairs, JudgeConfig(timesteps=0))
    with pytest.raises(ConfigError, match="seed is -1"):
        judge_pairs(store, [model], encoded, pairs, JudgeConfig(seed=-1))
