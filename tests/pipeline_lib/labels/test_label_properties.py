"""What must hold for any pairs and scores."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.core.errors import LabelError
from pipeline_lib.labels.recipes import names
from tests.pipeline_lib.labels.tables import frame, label

SCORERS = ("clip", "pickscore", "hpsv2", "aesthetic", "imagereward", "self-training")
# Sixty-fourths: sums and differences of a few of them are exact.
SCORE = st.integers(-512, 512).map(lambda value: value / 64)
PAIR = st.tuples(
    st.sampled_from([0.0, 0.5, 1.0, None]),
    st.integers(0, 6),
    st.lists(st.tuples(SCORE, SCORE), min_size=6, max_size=6),
)
PAIRS = st.lists(PAIR, min_size=1, max_size=40)
MORE: list[list[Any]] = [
    [{"vote": list(SCORERS), "ties": "margin"}],
    [{"vote": ["human", *SCORERS], "weights": {"human": 2.5}, "epsilon": {"clip": 0.5}, "ties": "prior:hpsv2"}],
    [{"soft": ["clip", "hpsv2"], "calibrate": "isotonic"}],
    [{"filter": {"agreement": 0.6, "among": ["human", "clip", "hpsv2"]}}, {"single": "clip"}, {"weight": "prompt"}],
    [{"single": "human"}, {"flip": 0.3, "stratify": "prompt"}, {"balance": "label"}, {"subsample": 0.9}],
    [{"oracle": 0.7, "calibrated": True}, {"reveal": 0.5}, "dedpo"],
    [{"split": 1, "folds": 2}, {"vote": ["clip", "hpsv2"]}, {"weight": "confidence"}],
]


def table_of(pairs: list[Any]) -> pl.DataFrame:
    """A working table; scores are kept beside the differences as `s_<scorer>_<side>`."""
    differences = {scorer: [scores[k][0] - scores[k][1] for _, _, scores in pairs] for k, scorer in enumerate(SCORERS)}
    return frame([human for human, _, _ in pairs], [f"prompt {p}" for _, p, _ in pairs], **differences)


def mirrored(table: pl.DataFrame) -> pl.DataFrame:
    """image_0 and image_1 swapped everywhere."""
    differences = [-pl.col(name) for name in table.columns if name.startswith("d_")]
    sides = [pl.col("image_1").alias("image_0"), pl.col("image_0").alias("image_1")]
    return table.with_columns((1 - pl.col("human")).alias("human"), *differences, *sides)


def outcome(table: pl.DataFrame, recipe: Any) -> pl.DataFrame | str:
    """Labels, or the error that the recipe ends in."""
    try:
        return label(table, recipe)[0]
    except LabelError as error:
        return str(error)


@pytest.mark.parametrize("recipe", [*names(), *MORE], ids=str)
@settings(max_examples=15, deadline=None)
@given(pairs=PAIRS)
def test_swapping_images_everywhere_mirrors_every_target(recipe: Any, pairs: list[Any]) -> None:
    table = table_of(pairs)
    plain, swapped = outcome(table, recipe), outcome(mirrored(table), recipe)
    if isinstance(plain, str) or isinstance(swapped, str):
        assert plain == swapped
        return
    assert plain["i"].to_list() == swapped["i"].to_list()
    for name in ("target", "human", "g_hat"):
        assert (1 - plain[name]).to_list() == pytest.approx(swapped[name].to_list(), abs=1e-6, nan_ok=True)
    assert plain["vote_sum"].fill_null(0).to_list() == (-swapped["vote_sum"].fill_null(0)).to_list()
    for name in ("is_human", "flipped", "weight", "source"):
        assert plain[name].to_list() == swapped[name].to_list()


@settings(max_examples=60, deadline=None)
@given(
    pairs=PAIRS,
    scorer=st.integers(0, 5),
    constant=SCORE,
    power=st.integers(-4, 6),
    ties=st.sampled_from(["human", "drop", "margin", "prior:pickscore"]),
)
def test_shifting_or_scaling_a_scorer_changes_no_vote(
    pairs: list[Any], scorer: int, constant: float, power: int, ties: str
) -> None:
    """By a constant on every score, and by a positive factor (a power of two: exact, so equal margins stay equal)."""

    def moved(scores: list[tuple[float, float]]) -> list[tuple[float, float]]:
        first, second = scores[scorer]
        new = ((first + constant) * 2.0**power, (second + constant) * 2.0**power)
        return [new if k == scorer else pair for k, pair in enumerate(scores)]

    recipe = [{"vote": ["human", *SCORERS[:4]], "ties": ties}]
    changed = [(human, prompt, moved(scores)) for human, prompt, scores in pairs]
    before, after = outcome(table_of(pairs), recipe), outcome(table_of(changed), recipe)
    if isinstance(before, str) or isinstance(after, str):
        assert before == after
        return
    kept = ["pair_id", "target", "vote_sum", "source", *(f"vote_{name}" for name in ("human", *SCORERS[:4]))]
    assert before.select(kept).equals(after.select(kept))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 400), rate=st.floats(0, 1), seed=st.integers(0, 2**31), stratify=st.sampled_from(["", "prompt"])
)
def test_flip_rate_is_within_binomial_bounds_and_reproducible(n: int, rate: float, seed: int, stratify: str) -> None:
    table = frame([1.0] * n, [f"prompt {i % 7}" for i in range(n)])
    recipe = [{"single": "human"}, {"flip": rate, "seed": seed, "stratify": stratify}]
    labels, counts = label(table, recipe)
    deviation = (n * rate * (1 - rate)) ** 0.5
    assert abs(counts["flipped"] - n * rate) <= max(3 * deviation, 1)
    assert (labels["target"] == 0).to_list() == labels["flipped"].to_list()
    again, _ = label(table.reverse(), recipe)
    assert set(again.filter("flipped")["pair_id"]) == set(labels.filter("flipped")["pair_id"])
    if stratify:
        shares = labels.group_by("prompt_id").agg(pl.col("flipped").sum(), pl.len())
        assert ((shares["flipped"] - shares["len"] * rate).abs() < 2).all()


def test_flips_of_other_seeds_are_other_flips() -> None:
    table = frame([1.0] * 200)
    flipped = [
        tuple(label(table, [{"single": "human"}, {"flip": 0.3, "seed": seed}])[0]["flipped"]) for seed in range(5)
    ]
    assert len(set(flipped)) == 5
