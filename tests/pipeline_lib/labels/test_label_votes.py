"""single, vote, aggregate and filter against labels worked out by hand."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.core.errors import LabelError
from tests.pipeline_lib.labels.tables import frame, label, random_frame, targets

#                 0     1     2     3     4     5     6
HUMAN = [1.0, 0.0, 0.5, None, 1.0, 0.0, 1.0]
A = [0.2, 0.1, 0.3, 0.1, 0.0, -1.0, 2.0]
B = [0.1, 0.3, -0.3, -0.2, 0.0, -1.0, -8.0]
TABLE = frame(HUMAN, a=A, b=B)


def test_single_human_keeps_ties_and_drops_unlabelled() -> None:
    labels, counts = label(TABLE, [{"single": "human"}])
    assert labels["i"].to_list() == [0, 1, 2, 4, 5, 6]
    assert labels["target"].to_list() == [1.0, 0.0, 0.5, 1.0, 0.0, 1.0]
    assert labels["is_human"].all()
    assert counts == {"pairs": 7, "dropped:1.single:unlabelled": 1, "kept": 6, "human": 6, "flipped": 0, "tied": 1}


def test_single_scorer_drops_equal_scores() -> None:
    labels, counts = label(TABLE, [{"single": "a"}])
    assert dict(zip(labels["i"], labels["target"], strict=True)) == {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0, 5: 0.0, 6: 1.0}
    assert not labels["is_human"].any()
    assert set(labels["source"]) == {"a"}
    assert counts["dropped:1.single:equal-scores"] == 1


def test_filter_drops_what_it_names_and_counts_it() -> None:
    labels, counts = label(TABLE, [{"filter": ["ties", "unlabelled"]}, {"single": "human"}])
    assert labels["i"].to_list() == [0, 1, 4, 5, 6]
    assert counts["dropped:1.filter:ties"] == counts["dropped:1.filter:unlabelled"] == 1
    assert targets(TABLE, [{"filter": "unlabelled"}, {"single": "human"}])[2] == 0.5


@pytest.mark.parametrize(
    ("ties", "expected"),
    [
        # rows 2 (human tie), 3 (unlabelled), 4 (both scorers abstain, human says 1) and 6 (human says 1) are tied
        ("human", {0: 1.0, 1: 1.0, 4: 1.0, 5: 0.0, 6: 1.0}),
        ("drop", {0: 1.0, 1: 1.0, 5: 0.0}),
        ("prior:a", {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0, 5: 0.0, 6: 1.0}),
        ("prior:b", {0: 1.0, 1: 1.0, 2: 0.0, 3: 0.0, 5: 0.0, 6: 0.0}),
        # in units of the root mean square (a: 0.857, b: 3.053): row 2 a .350 b -.098; row 3 a .117 b -.066;
        # row 6 a 2.33 b -2.62
        ("margin", {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0, 5: 0.0, 6: 0.0}),
    ],
)
def test_tie_rules(ties: str, expected: dict[int, float]) -> None:
    recipe = [{"vote": ["a", "b"], "ties": ties}]
    labels, counts = label(TABLE, recipe)
    assert targets(TABLE, recipe) == expected
    assert counts.get("dropped:1.vote:tied", 0) == 7 - len(expected)
    assert dict(zip(labels["i"], labels["vote_sum"], strict=True))[5] == -2
    tied = labels.filter(pl.col("vote_sum") == 0)
    assert set(tied["source"]) <= {f"tie-{ties.partition(':')[0]}"}
    assert tied["is_human"].to_list() == [ties == "human"] * len(tied)
    assert not labels.filter(pl.col("vote_sum") != 0)["is_human"].any()


def test_human_is_a_voter_who_abstains_on_ties_and_missing_labels() -> None:
    labels, _ = label(TABLE, [{"vote": ["human", "a", "b"], "ties": "prior:b"}])
    assert dict(zip(labels["i"], labels["vote_human"], strict=True)) == {0: 1, 1: -1, 2: 0, 3: 0, 4: 1, 5: -1, 6: 1}
    assert dict(zip(labels["i"], labels["target"], strict=True)) == {0: 1, 1: 1, 2: 0, 3: 0, 4: 1, 5: 0, 6: 1}
    assert labels.schema["vote_a"] == pl.Int8


def test_two_two_tie_of_balanced_goes_to_the_human() -> None:
    table = frame([0.0, 1.0], hpsv2=[1, 1], clip=[1, 1], pickscore=[-1, -1], aesthetic=[-1, 1])
    labels, _ = label(table, "balanced")
    assert labels["target"].to_list() == [0.0, 1.0]
    assert labels["vote_sum"].to_list() == [0, 2]
    assert labels["is_human"].to_list() == [True, False]


def test_voting5_counts_the_human_once() -> None:
    table = frame(
        [1.0, 1.0, None], pickscore=[1, -1, 1], imagereward=[1, -1, 1], aesthetic=[-1, -1, 1], hpsv2=[-1, 1, 1]
    )
    labels, counts = label(table, "voting5")
    assert labels["target"].to_list() == [1.0, 0.0]
    assert labels["vote_sum"].to_list() == [1, -1]
    assert counts["dropped:1.filter:unlabelled"] == 1


@pytest.mark.parametrize(
    ("how", "expected"),
    [("sum", {0: 1, 1: 1, 3: 0, 5: 0, 6: 0}), ("normalised_sum", {0: 1, 1: 1, 2: 1, 3: 1, 5: 0, 6: 0})],
)
def test_aggregates(how: str, expected: dict[int, float]) -> None:
    assert targets(TABLE, [{"aggregate": ["a", "b"], "how": how}]) == expected


def test_random_aggregate_takes_each_scorer_about_equally_and_again_the_same() -> None:
    table = frame([None] * 2000, a=[1.0] * 2000, b=[-1.0] * 2000)
    recipe = [{"aggregate": ["a", "b"], "how": "random", "seed": 3}]
    found = targets(table, recipe)
    assert 900 < sum(found.values()) < 1100
    shuffled = table.sample(fraction=1, shuffle=True, seed=1)
    by_pair = dict(
        zip(*label(shuffled, recipe)[0].select("pair_id", "target").to_dict(as_series=False).values(), strict=True)
    )
    assert {table["pair_id"][i]: target for i, target in found.items()} == by_pair


def test_missing_and_infinite_scores_drop_the_pair_and_say_so() -> None:
    table = frame([1.0] * 4, a=[1, None, None, 1], b=[1, 1, None, None])
    labels, counts = label(table, [{"vote": ["a", "b"]}])
    assert labels["i"].to_list() == [0]
    assert (counts["dropped:0.scores:unscored-a"], counts["dropped:0.scores:unscored-b"]) == (2, 1)
    assert sum(n for name, n in counts.items() if name.startswith("dropped")) + counts["kept"] == counts["pairs"]


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(LabelError, match=r"1\.filter:ties 2"):
        label(frame([0.5, 0.5]), "human")


RECIPES = [
    "human",
    "balanced",
    "voting5",
    "dedpo25",
    "naive25",
    "flip20",
    [{"vote": ["clip", "hpsv2"], "ties": "margin"}],
]
NOISE = {"clip": 1.0, "hpsv2": 0.8, "pickscore": 0.5, "aesthetic": 3.0, "imagereward": 1.0}


def mirror(table: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """The same comparisons with the images of some rows swapped."""
    flipped = [
        pl.when(rows).then(-pl.col(name)).otherwise(name).alias(name)
        for name in table.columns
        if name.startswith("d_")
    ]
    sides = [
        pl.when(rows).then("image_1").otherwise("image_0").alias("image_0"),
        pl.when(rows).then("image_0").otherwise("image_1").alias("image_1"),
    ]
    return table.with_columns(
        pl.when(rows).then(1 - pl.col("human")).otherwise("human").alias("human"), *flipped, *sides
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_swapping_images_mirrors_targets(recipe: object) -> None:
    table = random_frame(400, **NOISE)
    rows = pl.Series([i % 3 == 0 for i in range(400)])
    plain, swapped = targets(table, recipe), targets(mirror(table, rows), recipe)
    assert plain.keys() == swapped.keys()
    for i, target in plain.items():
        assert swapped[i] == pytest.approx(1 - target if rows[i] else target, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.01, 100), ties=st.sampled_from(["human", "drop", "margin", "prior:hpsv2"]))
def test_scaling_a_scorer_changes_no_vote(factor: float, ties: str) -> None:
    table = random_frame(100, **NOISE)
    recipe = [{"vote": ["clip", "hpsv2", "pickscore", "aesthetic"], "ties": ties}]
    scaled = table.with_columns(pl.col("d_clip") * factor)
    assert targets(scaled, recipe) == targets(table, recipe)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0, None]), *[st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0])] * 3),
        min_size=1,
        max_size=8,
    )
)
def test_vote_is_its_plain_definition(rows: list[tuple[float | None, float, float, float]]) -> None:
    def sign(x: float) -> int:
        return (x > 0) - (x < 0)

    expected = {}
    for i, (human, *ds) in enumerate(rows):
        total = sum(sign(d) for d in ds)
        decision = total or (0 if human is None else sign(human - 0.5))
        if decision:
            expected[i] = float(decision > 0)
    columns = list(zip(*rows, strict=True))
    table = frame(columns[0], a=columns[1], b=columns[2], c=columns[3])
    recipe = [{"vote": ["a", "b", "c"], "ties": "human"}]
    if expected:
        assert targets(table, recipe) == expected
    else:
        with pytest.raises(LabelError, match="No pair is left"):
            targets(table, recipe)


def test_margins_use_the_root_mean_square() -> None:
    table = frame([None, None], a=[3.0, 3.0], b=[-0.1, -math.sqrt(1.99)])
    # b: root mean square 1, margins -0.1 and -1.41; a: root mean square 3, margins 1 and 1
    assert targets(table, [{"vote": ["a", "b"], "ties": "margin"}]) == {0: 1.0, 1: 0.0}


def test_largest_margin_decides_not_the_sum_of_margins() -> None:
    # row 1 brings every scorer's sum of squares to 10, so that row 0 compares 3 and 0.1 with -2 and -2 on one scale
    differences = {"a": [3.0, 1.0], "b": [0.1, 9.99**0.5], "c": [-2.0, 6**0.5], "d": [-2.0, 6**0.5]}
    table = frame([None, None], **differences)
    assert targets(table, [{"vote": ["a", "b", "c", "d"], "ties": "margin"}]) == {0: 1.0, 1: 1.0}
