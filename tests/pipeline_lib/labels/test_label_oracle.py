"""oracle: a synthetic annotator that is right about exactly the share of pairs it is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.labels.explain import explain
from pipeline_lib.labels.measures import HIDDEN
from pipeline_lib.labels.recipe import build_labels
from pipeline_lib.labels.report import REPORT_JSON
from tests.pipeline_lib.labels.tables import frame, ingested, label, random_frame
from tests.pipeline_lib.labels.test_label_statistics import cross_entropy, dedpo_estimate, logits

REVEAL = {"reveal": 0.25, "seed": 7}


def right(labels: pl.DataFrame, table: pl.DataFrame) -> set[int]:
    """The rows that the annotator has right: it prefers the image that the human label, hidden or not, prefers."""
    human = table["human"].to_numpy()[labels["i"].to_numpy()]
    agree = (labels["g_hat"].to_numpy() - 0.5) * (human - 0.5) > 0
    return set(labels["i"].to_numpy()[agree].tolist())


def asked(accuracy: float, last: str = "dedpo", **options: Any) -> list[Any]:
    return [{"oracle": accuracy, **options}, REVEAL, last]


@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.5, 0.905, 1.0])
def test_it_is_right_about_exactly_that_share(accuracy: float) -> None:
    table = random_frame(400)
    labels, counts = label(table, asked(accuracy))
    assert counts["kept"] == 400 and counts["n_l"] == 100
    assert len(right(labels, table)) == round(400 * accuracy)
    assert set(labels["g_hat"]) <= {0.0, 1.0}
    again, _ = label(table.reverse(), asked(accuracy))
    assert right(again, table.reverse()) == {399 - i for i in right(labels, table)}, "rows in another order"


def test_under_one_seed_the_less_accurate_is_part_of_the_more_accurate() -> None:
    table = random_frame(400)
    found = [right(label(table, asked(accuracy))[0], table) for accuracy in (0.2, 0.6, 0.9, 1.0)]
    assert found[0] < found[1] < found[2] < found[3]
    assert right(label(table, asked(0.6, seed=1))[0], table) != found[1]


def test_what_it_has_right_has_nothing_to_do_with_what_reveal_shows() -> None:
    table = random_frame(4000)
    labels, _ = label(table, asked(0.7, seed=7))
    shown = set(labels.filter("is_human")["i"])
    assert len(shown) == 1000
    assert abs(len(right(labels, table) & shown) / 1000 - 0.7) < 3 * (0.7 * 0.3 / 1000) ** 0.5


def test_calibrated_says_how_sure_it_may_be() -> None:
    table = random_frame(400)
    hard, _ = label(table, asked(0.8))
    soft, _ = label(table, asked(0.8, calibrated=True))
    assert sorted(soft["g_hat"].unique().to_list()) == pytest.approx([0.2, 0.8])
    assert right(soft, table) == right(hard, table)
    coin, _ = label(table, asked(0.5, calibrated=True))
    assert set(coin["g_hat"]) == {0.5}


def test_ties_stay_undecided_and_pairs_without_a_label_are_dropped() -> None:
    labels, counts = label(frame([0.5, 1.0, None, 0.0]), [{"oracle": 0.5}, {"reveal": 1.0}, "dedpo"])
    assert labels["i"].to_list() == [0, 1, 3] and labels["g_hat"][0] == 0.5
    assert sum((labels["g_hat"] == labels["human"])[1:]) == 1
    assert counts["dropped:1.oracle:unlabelled"] == 1


def test_a_perfect_annotator_makes_mix_the_human_labels() -> None:
    table = random_frame(200)
    perfect, _ = label(table, asked(1.0, "mix"))
    human, _ = label(table, "human")
    assert perfect["target"].to_list() == human["target"].to_list()
    wrong, _ = label(table, asked(0.0, "mix"))
    assert ((wrong["target"] == human["target"]) == wrong["is_human"]).all() and wrong["is_human"].sum() == 50


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 200), accuracy=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_the_share_is_exact_for_any_number_of_pairs(n: int, accuracy: float, seed: int) -> None:
    table = frame([float(i % 2) for i in range(n)])
    labels, _ = label(table, [{"oracle": accuracy, "seed": seed}, {"reveal": 1.0}, "dedpo"])
    assert len(right(labels, table)) == round(accuracy * n)


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.9])
def test_dedpo_is_unbiased_whatever_its_accuracy(accuracy: float) -> None:
    table, runs = random_frame(400, seed=3), 100
    logit = logits(table)
    full = cross_entropy(logit, table["human"].to_numpy()).mean()
    debiased = []
    for seed in range(runs):
        labels, _ = label(table, [{"oracle": accuracy, "seed": seed}, {"reveal": 0.25, "seed": seed}, "dedpo"])
        debiased.append(dedpo_estimate(labels, logit))
    error = np.std(debiased) / np.sqrt(runs)
    assert abs(np.mean(debiased) - full) < 3 * error
    assert error < 0.05 * full, "precise enough to see a bias"


def test_the_report_says_what_it_is_and_how_often_it_is_right(tmp_path: Path) -> None:
    human = [float(i % 2) for i in range(100)]
    labels = build_labels(str(tmp_path), asked(0.9), ingested(str(tmp_path), human), {})
    with labels.open(REPORT_JSON) as file:
        report = json.load(file)
    assert report["words"] == explain(asked(0.9)).splitlines()
    assert "right about 0.9 of them, drawn at random (seed 0)" in report["words"][0]
    assert report["brier"] == pytest.approx(0.1)
    hidden = report["agreement"][HIDDEN]
    shown = labels.scan().filter("is_human").collect()
    wrong = (shown["g_hat"] != shown["human"]).sum()
    assert (hidden["n"], hidden["agree"]) == (75, 75 - (10 - wrong))


def test_calibrated_in_words() -> None:
    assert "wrong about the others, held 0.75 probable" in explain(asked(0.75, calibrated=True))
