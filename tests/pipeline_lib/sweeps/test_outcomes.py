"""Outcomes by prompt against sums by hand, their symmetry, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline_lib.core import store
from pipeline_lib.core.errors import EvaluationError, UnknownNameError
from pipeline_lib.sweeps.measures import measure_of
from pipeline_lib.sweeps.outcomes import SCHEMA, Scores, judged, read_scores, table

PROMPTS = ["a", "a", "b", "b"]
BASE = Scores(
    PROMPTS,
    {"clip": np.array([1.0, 2.0, 3.0, 4.0]), "hpsv2": np.array([0.0, 0.0, 0.0, 8.0]), "true": np.full(4, 5.0)},
    np.array([0.1, 0.1, 0.2, 0.2]),
)
MODEL = Scores(
    PROMPTS,
    {
        "clip": np.array([2.0, 2.0, 2.0, 6.0]),
        "hpsv2": np.array([1.0, 1.0, 1.0, 9.0]),
        "true": np.array([6.0, 5, 5, 4]),
    },
    np.array([0.3, 0.3, 0.1, 0.1]),
)


def values(*names: str, model: Scores = MODEL, base: Scores = BASE, ties: float = 0.0) -> dict[str, dict[str, float]]:
    return {name: dict(found) for name, found in judged(model, base, map(measure_of, names), ties).items()}


def test_wins_and_gains_of_every_prompt_by_hand() -> None:
    found = values("win/clip", "win/average", "win/true", "gain/clip", "gain/true", "gain/average", "diversity")
    assert found["win/clip"] == {"a": 0.75, "b": 0.5}, "a win and a tie; a loss and a win"
    assert found["win/true"] == {"a": 0.75, "b": 0.25}
    assert found["win/average"] == {"a": (0.75 + 1) / 2, "b": (0.5 + 1) / 2}, "over scorers, not the truth"
    red, blue = np.std([1, 2, 3, 4]), np.std([0, 0, 0, 8])
    assert found["gain/clip"] == pytest.approx({"a": 0.5 / red, "b": 0.5 / red})
    assert found["gain/true"] == {"a": 0.5, "b": -0.5}, "the base's scores are all equal: in the scorer's units"
    assert found["gain/average"] == pytest.approx({"a": (0.5 / red + 1 / blue) / 2, "b": (0.5 / red + 1 / blue) / 2})
    assert found["diversity"] == pytest.approx({"a": 0.2, "b": -0.1})


def test_quality_is_the_truth_where_it_is_known_else_the_average() -> None:
    assert values("win/quality")["win/quality"] == values("win/true")["win/true"]
    model, base = (Scores(s.prompts, {n: v for n, v in s.by.items() if n != "true"}) for s in (MODEL, BASE))
    found = values("win/quality", "win/average", "gain/quality", "gain/average", model=model, base=base)
    assert found["win/quality"] == found["win/average"] and found["gain/quality"] == found["gain/average"]
    with pytest.raises(UnknownNameError, match="true"):
        values("win/true", model=model, base=base)


def test_swapping_the_models_mirrors_every_win() -> None:
    forth = values("win/clip", "win/average", "diversity", ties=0.3)
    back = values("win/clip", "win/average", "diversity", model=BASE, base=MODEL, ties=0.3)
    for prompt in ("a", "b"):
        assert back["win/clip"][prompt] == 1 - forth["win/clip"][prompt]
        assert back["win/average"][prompt] == pytest.approx(1 - forth["win/average"][prompt])
        assert back["diversity"][prompt] == -forth["diversity"][prompt]
    assert values("win/clip", ties=10.0)["win/clip"] == {"a": 0.5, "b": 0.5}, "all within the spread"


def test_a_model_is_its_own_equal() -> None:
    found = values("win/clip", "win/average", "gain/clip", "diversity", model=BASE)
    assert {name: set(by_prompt.values()) for name, by_prompt in found.items()} == {
        "win/clip": {0.5},
        "win/average": {0.5},
        "gain/clip": {0.0},
        "diversity": {0.0},
    }


def test_other_rows_and_missing_diversity_are_refused() -> None:
    with pytest.raises(EvaluationError, match="other prompts"):
        values("win/clip", base=Scores(["a", "a", "b", "c"], BASE.by))
    with pytest.raises(EvaluationError, match="Give two image seeds"):
        values("diversity", base=Scores(PROMPTS, BASE.by))


def test_scores_are_read_in_the_same_order_whatever_the_shards(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "prompt_id": ["b", "a", "c", "a"],
            "seed": [0, 1, 0, 0],
            "clip_tiny": pl.Series([3, 2, 9, 1], dtype=pl.Float32),
            "true": pl.Series([0.5, 0.25, 1, 0], dtype=pl.Float32),
        }
    )
    writer = store.writer(str(tmp_path), "image-scores", 1, {})
    parts = [writer.write_table(f"part-{i}.parquet", frame[2 * i : 2 * i + 2].to_arrow()) for i in range(2)]
    found = read_scores(writer.commit(parts), {"clip": "clip_tiny"}, {"a", "b"})
    assert found.prompts == ["a", "a", "b"] and found.diversity is None
    assert {name: column.tolist() for name, column in found.by.items()} == {"clip": [1, 2, 3], "true": [0, 0.25, 0.5]}


def test_the_table_is_sorted_and_typed() -> None:
    rows = [
        ("z", 0, {"win/clip": {"q": 0.5, "p": 1.0}}),
        ("a", 1, {"train/loss": {"": 0.7}}),
        ("a", 0, {"win/clip": {"p": 0.0}, "gain/clip": {"p": -1.0}}),
    ]
    found = table(rows)
    assert found.schema == SCHEMA
    assert found.rows() == [
        ("a", 0, "gain/clip", "p", -1.0),
        ("a", 0, "win/clip", "p", 0.0),
        ("a", 1, "train/loss", "", pytest.approx(0.7)),
        ("z", 0, "win/clip", "p", 1.0),
        ("z", 0, "win/clip", "q", 0.5),
    ]
    assert table(reversed(rows)).equals(found)
