"""Win rates against numbers worked out by hand, and the symmetry of everything that is reported."""

import numpy as np
import pytest

from pipeline_lib.core.errors import EvaluationError
from pipeline_lib.evaluation.statistics import Interval
from pipeline_lib.evaluation.winrates import (
    TRUE,
    Comparison,
    compare,
    compare_by_category,
    mean_difference,
    outcomes,
)


def test_counts_and_rates_of_a_small_case() -> None:
    result = compare(
        {"clip": [1.0, 2.0, 3.0, 4.0, 5.0]},
        {"clip": [0.5, 2.0, 3.5, 3.0, 4.0]},
        ["a", "a", "b", "c", "d"],
    )
    clip = result.scorers["clip"]
    assert (clip.wins, clip.ties, clip.losses) == (3, 1, 1)
    assert clip.win_rate.point == pytest.approx(3.5 / 5)
    assert clip.difference.point == pytest.approx((0.5 + 0 - 0.5 + 1 + 1) / 5)
    # Prompts a (a win and a tie), c, d are won and b is lost: 2 * (C(4,0) + C(4,1)) / 2^4.
    assert clip.p_value == pytest.approx(10 / 16)
    assert (result.rows, result.prompts) == (5, 4)
    assert result.average == clip.win_rate


def test_scores_tie_when_equal_or_within_the_given_spread() -> None:
    scores = np.array([1.0, 2.0, 3.0])
    assert outcomes(scores, scores).tolist() == [0.0, 0.0, 0.0]
    assert outcomes(np.nextafter(scores, 9), scores).tolist() == [0.5, 0.5, 0.5]
    assert outcomes(scores + np.array([0.01, -0.01, 0.2]), scores, tie_spread=0.1).tolist() == [0.0, 0.0, 0.5]
    spread = float(np.std(np.concatenate([scores, scores + 0.5])))
    assert outcomes(scores + 0.5, scores, tie_spread=0.5 / spread + 1e-9).tolist() == [0.0, 0.0, 0.0]
    assert outcomes(scores + 0.5, scores, tie_spread=0.5 / spread - 1e-9).tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(("prompts", "seeds"), [(3, 1), (7, 3), (60, 2), (101, 1), (40, 5)])
@pytest.mark.parametrize("tie_spread", [0.0, 0.3])
def test_swapping_the_models_mirrors_every_number_exactly(prompts: int, seeds: int, tie_spread: float) -> None:
    rng = np.random.default_rng(prompts)
    ids = [f"p{row // seeds}" for row in range(prompts * seeds)]
    ours = {name: rng.normal(0.3, 1, len(ids)).astype(np.float32) for name in ("clip", "hpsv2", "aesthetic", TRUE)}
    theirs = {name: rng.normal(0, 1, len(ids)).astype(np.float32) for name in ours}
    ours["clip"][::3] = theirs["clip"][::3]
    ours["sure"], theirs["sure"] = np.ones(len(ids)), np.zeros(len(ids))
    ours["same"] = theirs["same"] = np.zeros(len(ids))
    backwards = {name: ours[name] for name in reversed(ours)}
    forward = compare(ours, theirs, ids, tie_spread=tie_spread)
    assert_mirrored(forward, compare(theirs, backwards, ids, tie_spread=tie_spread))
    assert_mirrored(forward, compare(dict(reversed(theirs.items())), ours, ids, tie_spread=tie_spread))
    categories = ["even" if int(prompt[1:]) % 2 else "odd" for prompt in ids]
    parts = compare_by_category(ours, theirs, ids, categories, tie_spread=tie_spread)
    mirrors = compare_by_category(theirs, ours, ids, categories, tie_spread=tie_spread)
    assert parts.keys() == mirrors.keys()
    for name, part in parts.items():
        assert_mirrored(part, mirrors[name])


def assert_mirrored(one: Comparison, other: Comparison) -> None:
    assert (one.rows, one.prompts) == (other.rows, other.prompts)
    for name, row in one.scorers.items():
        swapped = other.scorers[name]
        assert (row.wins, row.ties, row.losses) == (swapped.losses, swapped.ties, swapped.wins)
        assert row.win_rate == mirrored(swapped.win_rate, 1.0)
        assert row.difference == mirrored(swapped.difference, 0.0)
        assert (row.p_value, row.p_holm) == (swapped.p_value, swapped.p_holm)
    assert one.average == mirrored(other.average, 1.0)


def mirrored(interval: Interval, total: float) -> Interval:
    return Interval(total - interval.point, total - interval.high, total - interval.low)


def test_the_order_of_the_rows_changes_no_share() -> None:
    rng = np.random.default_rng(0)
    ours, theirs, order = rng.normal(0.2, 1, 40), rng.normal(size=40), rng.permutation(40)
    ids = np.array([f"p{row // 2}" for row in range(40)])
    one = compare({"clip": ours}, {"clip": theirs}, ids.tolist()).scorers["clip"]
    other = compare({"clip": ours[order]}, {"clip": theirs[order]}, ids[order].tolist()).scorers["clip"]
    assert (one.win_rate, one.p_value, one.difference.point) == (other.win_rate, other.p_value, other.difference.point)


def test_the_truth_is_neither_averaged_nor_corrected_with_the_scorers() -> None:
    zero = np.zeros(8)
    up = np.array([1.0, 1, 1, 1, 1, 1, 1, -1])
    result = compare({"a": up, "b": -up, TRUE: up}, {"a": zero, "b": zero, TRUE: zero}, list("abcdefgh"))
    p = 2 * (1 + 8) / 2**8
    assert result.average.point == pytest.approx(0.5)
    assert result.scorers["a"].p_holm == pytest.approx(2 * p)
    assert result.scorers[TRUE].p_holm == pytest.approx(p)


def test_the_average_is_the_mean_of_the_win_rates() -> None:
    rng = np.random.default_rng(5)
    ours = {name: rng.normal(shift, 1, 50) for name, shift in (("a", 0.5), ("b", 0.0), ("c", -0.2))}
    theirs = {name: rng.normal(size=50) for name in ours}
    result = compare(ours, theirs, [str(i) for i in range(50)])
    rates = [row.win_rate.point for row in result.scorers.values()]
    assert result.average.point == pytest.approx(np.mean(rates))
    assert result.average.low > min(row.win_rate.low for row in result.scorers.values())


def test_categories_are_compared_by_themselves() -> None:
    ours, theirs = {"clip": [1.0, 1, 1, 0, 0, 0, 9]}, {"clip": [0.0, 0, 0, 1, 1, 1, 0]}
    found = compare_by_category(ours, theirs, list("abcdefg"), ["up", "up", "up", "down", "down", "down", "one"])
    assert list(found) == ["down", "up"], "a category with one prompt has no interval and is left out"
    assert (found["up"].average.point, found["down"].average.point) == (1.0, 0.0)
    assert found["up"].prompts == 3
    assert found["up"].scorers["clip"].win_rate.low ** 3 == pytest.approx(0.025)


def test_a_difference_of_means_has_an_interval_over_prompts() -> None:
    ids = [str(i // 2) for i in range(80)]
    noise = np.random.default_rng(6).normal(size=80)
    found = mean_difference(0.5 + 0.1 * noise, np.zeros(80), ids)
    assert found.low < 0.5 < found.high and found.high - found.low < 0.1
    assert found.point == pytest.approx(0.5 + 0.1 * noise.mean())


def test_identical_models_tie_everywhere() -> None:
    scores = np.linspace(0, 1, 12)
    clip = compare({"clip": scores}, {"clip": scores}, [str(i) for i in range(12)]).scorers["clip"]
    assert (clip.wins, clip.ties, clip.losses) == (0, 12, 0)
    assert clip.win_rate.point == 0.5 and clip.win_rate.low < 0.5 < clip.win_rate.high
    assert clip.p_value == 1.0
    assert clip.difference == Interval(0.0, 0.0, 0.0)


def test_misfitting_scores_are_refused() -> None:
    with pytest.raises(EvaluationError, match="different scorers"):
        compare({"clip": [1.0, 2]}, {"hpsv2": [1.0, 2]}, ["a", "b"])
    with pytest.raises(EvaluationError, match="two prompts"):
        compare({"clip": [1.0, 2]}, {"clip": [1.0, 2]}, ["a", "a"])
    with pytest.raises(EvaluationError, match="not finite"):
        compare({"clip": [1.0, np.nan]}, {"clip": [1.0, 2]}, ["a", "b"])
    with pytest.raises(EvaluationError, match="shapes"):
        compare({"clip": [1.0]}, {"clip": [1.0, 2]}, ["a", "b"])
    with pytest.raises(EvaluationError, match="3 prompts"):
        compare({"clip": [1.0, 2]}, {"clip": [1.0, 2]}, ["a", "b", "c"])
