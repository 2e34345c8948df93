"""The label report: its numbers against hand-made ones, its page, and that it is reproducible."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.data.ingest import ingest
from pipeline_lib.data.sources import known_truth
from pipeline_lib.labels.measures import HIDDEN, calibration, fleiss, measure
from pipeline_lib.labels.recipe import apply, build_labels
from pipeline_lib.labels.recipes import steps_of
from pipeline_lib.labels.report import REPORT_HTML, REPORT_JSON, summary
from pipeline_lib.labels.table import pair_table
from pipeline_lib.presets import preset
from tests.pipeline_lib.labels.tables import frame, label

RECIPE = [
    {"filter": ["ties", "unlabelled"]},
    {"reveal": 0.5, "seed": 1},
    {"pseudo_label": "clip", "calibrate": "isotonic"},
    "dedpo",
]


def report_of(dataset: Dataset) -> dict[str, Any]:
    with dataset.open(REPORT_JSON) as file:
        return dict(json.load(file))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Dataset, dict[str, Dataset]]:
    """Pairs of the built-in world, a scorer that knows the truth and one that says the opposite."""
    store = str(tmp_path_factory.mktemp("store"))
    pairs = ingest(store, replace(preset("shapes").ingest, limit=200))
    truth = known_truth("shapes://pairs")
    assert truth is not None
    datasets = {}
    for name, factor in (("clip", 1.0), ("hpsv2", -1.0)):
        w = writer(store, f"scores-{name}", 1, {"factor": factor})
        table = truth.select("image_uid", "prompt_id", (pl.col("utility") * factor).alias("score"))
        datasets[name] = w.commit([w.write_table("part-00000.parquet", table.to_arrow())])
    return store, pairs, datasets


def test_numbers_of_a_real_report(world: tuple[str, Dataset, dict[str, Dataset]]) -> None:
    store, pairs, datasets = world
    labels = build_labels(store, RECIPE, pairs, datasets)
    report = report_of(labels)
    counts = labels.counts
    assert report["counts"] == counts
    assert [(row["step"], row["reason"]) for row in report["waterfall"]][:1] == [("1. filter", "ties")]
    assert report["waterfall"][-1]["left"] == counts["kept"]
    assert counts["pairs"] - sum(row["dropped"] for row in report["waterfall"]) == counts["kept"]
    assert report["labels"]["sources"] == {"g_hat": counts["n_u"], "human": counts["n_l"]}
    assert sum(report["labels"]["soft"]) == counts["kept"]
    truth = report["truth"]
    assert truth["clip"]["rate"] == 1.0 and 0.7 < truth["human"]["rate"] < 1.0
    # What is fitted on people prefers what the scorer prefers: it knows the truth.
    assert truth["g_hat"]["rate"] > truth["human"]["rate"] and 0 < truth["label"]["n"] <= counts["kept"]
    hidden = report["agreement"][HIDDEN]
    assert 0 < hidden["n"] <= counts["n_u"] and hidden["low"] < hidden["rate"] < hidden["high"]
    assert sum(row["n"] for row in report["calibration"]) == counts["kept"]
    assert 0 < report["brier"] < 0.25
    contrary = report_of(build_labels(store, [{"single": "hpsv2"}], pairs, datasets))
    assert contrary["truth"]["hpsv2"]["rate"] == contrary["truth"]["label"]["rate"] == 0.0
    assert contrary["agreement"]["hpsv2"]["rate"] == 1.0


def test_page_is_self_contained_and_shows_the_disputed_pairs(world: tuple[str, Dataset, dict[str, Dataset]]) -> None:
    store, pairs, datasets = world
    labels = build_labels(store, [{"vote": ["human", "clip", "hpsv2"], "ties": "drop"}], pairs, datasets)
    with labels.open(REPORT_HTML) as file:
        page = file.read().decode()
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert page.count("data:image/jpeg;base64,") == 16
    for heading in (
        "What the recipe did",
        "The labels",
        "Agreement",
        "Accuracy against the known truth",
        "Most disputed",
    ):
        assert heading in page
    report = report_of(labels)
    words = summary(report, labels.uri)
    assert "Fleiss" in words and f"{labels.counts['kept']:,} of {labels.counts['pairs']:,}" in words
    assert all(abs(value) <= 3 for value, _ in report["vote_sums"])


def test_report_is_reproducible_and_leaves_the_rows_alone(
    tmp_path: Path, world: tuple[str, Dataset, dict[str, Dataset]]
) -> None:
    store, pairs, datasets = world
    first, second = (build_labels(where, RECIPE, pairs, datasets) for where in (store, str(tmp_path)))
    assert first.digest == second.digest and first.uri != second.uri
    rows, _ = apply(pair_table(pairs, {"clip": datasets["clip"]}), steps_of(RECIPE))
    assert first.scan().collect().equals(rows)
    assert "/tmp" not in json.dumps(report_of(first))


def test_fleiss_kappa_of_the_hand() -> None:
    # three annotators, four pairs they all decide: agreement (3,0) (3,0) (2,1) (1,2), one pair with an abstention
    votes = {
        "a": np.array([1, 1, 1, -1, 0]),
        "b": np.array([1, 1, 1, -1, 1]),
        "c": np.array([1, 1, -1, 1, 0]),
    }
    observed = (1 + 1 + 1 / 3 + 1 / 3) / 4
    chance = (9 / 12) ** 2 + (3 / 12) ** 2
    assert fleiss(votes) == {
        "annotators": ["a", "b", "c"],
        "n": 4,
        "kappa": pytest.approx((observed - chance) / (1 - chance)),
    }
    assert fleiss({"a": votes["a"]}) is None
    assert fleiss({"a": votes["a"], "b": np.zeros(5)}) is None


def test_calibration_bins_count_decided_people_only() -> None:
    predicted = np.array([0.05, 0.07, 0.95, 1.0, 0.5, np.nan, 0.5])
    human = np.array([-0.5, 0.5, 0.5, 0.5, 0.0, 0.5, np.nan])
    found = calibration(predicted, human)
    assert [(row["n"], row["observed"]) for row in found["calibration"]] == [(2, 0.5), (2, 1.0)]
    assert [row["predicted"] for row in found["calibration"]] == pytest.approx([0.06, 0.975])
    assert found["brier"] == pytest.approx((0.05**2 + 0.93**2 + 0.05**2 + 0) / 4)
    assert calibration(np.full(3, np.nan), np.ones(3)) == {"calibration": [], "brier": None}


def test_measures_of_hand_made_labels() -> None:
    table = frame([1.0, 0.0, 0.5, None], a=[1.0, 1.0, -1.0, -1.0], b=[0.0, -1.0, -1.0, 2.0])
    labels, _ = label(table, [{"vote": ["a", "b"], "ties": "prior:a"}])
    found = measure(table[labels["i"]], labels, ["a", "b"], None)
    assert found["labels"] == {
        "image_0": 2,
        "image_1": 2,
        "tied": 0,
        "soft": [2, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        "sources": {"tie-prior": 2, "vote": 2},
    }
    assert found["vote_sums"] == [[-2.0, 1], [0.0, 2], [1.0, 1]]
    agree = {name: (row["agree"], row["n"]) for name, row in found["agreement"].items()}
    assert agree == {"human": (1, 2), "a": (4, 4), "b": (1, 3)}
    assert found["truth"] is None and found["calibration"] == []
