"""Win rates against numbers worked out by hand, and intervals against a simulation with a known truth."""

import math

import numpy as np
import pytest

from pipeline_lib.errors import EvaluationError
from pipeline_lib.evaluation import winrates
from pipeline_lib.evaluation.winrates import (
    TRUE,
    Interval,
    binomial_two_sided,
    bootstrap,
    compare,
    holm,
    outcomes,
    sign_test,
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


def test_a_tie_is_a_difference_within_rounding() -> None:
    scores = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    assert outcomes(np.nextafter(scores, 9), scores).tolist() == [0.5, 0.5, 0.5]
    assert outcomes(scores + 0.01, scores).tolist() == [1.0, 1.0, 1.0]


def test_swapping_the_models_mirrors_every_number() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(0.2, 1, 60), rng.normal(0, 1, 60)
    ours[:10] = theirs[:10]
    prompts = [f"p{i // 2}" for i in range(60)]
    forward = compare({"clip": ours, TRUE: -ours}, {"clip": theirs, TRUE: -theirs}, prompts)
    backward = compare({"clip": theirs, TRUE: -theirs}, {"clip": ours, TRUE: -ours}, prompts)
    for name in ("clip", TRUE):
        one, other = forward.scorers[name], backward.scorers[name]
        assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
        assert mirrored(one.win_rate, other.win_rate, 1.0) and mirrored(one.difference, other.difference, 0.0)
        assert one.p_value == other.p_value
    assert mirrored(forward.average, backward.average, 1.0)


def mirrored(one: Interval, other: Interval, total: float) -> bool:
    wanted = (total - other.point, total - other.high, total - other.low)
    return bool(np.allclose((one.point, one.low, one.high), wanted, atol=1e-12))


def test_the_truth_is_neither_averaged_nor_corrected_with_the_scorers() -> None:
    zero = np.zeros(8)
    up = np.array([1.0, 1, 1, 1, 1, 1, 1, -1])
    result = compare({"a": up, "b": -up, TRUE: up}, {"a": zero, "b": zero, TRUE: zero}, list("abcdefgh"))
    p = 2 * (1 + 8) / 2**8
    assert result.average.point == pytest.approx(0.5)
    assert result.scorers["a"].p_holm == pytest.approx(2 * p)
    assert result.scorers[TRUE].p_holm == pytest.approx(p)


def test_holm_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(("won", "trials"), [(0, 0), (5, 10), (9, 10), (0, 6), (130, 200)])
def test_binomial_tail_equals_the_exact_fraction(won: int, trials: int) -> None:
    fewer = min(won, trials - won)
    exact = sum(math.comb(trials, k) for k in range(fewer + 1)) * 2 / 2**trials
    assert binomial_two_sided(won, trials) == pytest.approx(min(1.0, exact), rel=1e-10)


def test_sign_test_counts_a_prompt_once() -> None:
    wins = np.array([1.0, 1, 1, 0, 0.5, 1])
    index = np.array([0, 0, 0, 1, 2, 3])
    assert sign_test(wins, index) == pytest.approx(binomial_two_sided(2, 3))


def test_unanimous_rows_get_the_exact_interval() -> None:
    result = compare({"clip": np.arange(1.0, 21)}, {"clip": np.arange(0.0, 20)}, [str(i) for i in range(20)])
    rate = result.scorers["clip"].win_rate
    assert rate.high == 1.0
    assert rate.low**20 == pytest.approx(0.025)


def test_identical_models_tie_everywhere() -> None:
    scores = np.linspace(0, 1, 12)
    result = compare({"clip": scores}, {"clip": scores}, [str(i) for i in range(12)])
    assert result.scorers["clip"].win_rate == Interval(0.5, 0.5, 0.5)
    assert result.scorers["clip"].p_value == 1.0


def test_bootstrap_is_seeded_and_independent_of_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((40, 2))
    index = np.repeat(np.arange(20), 2)
    first = bootstrap(values, index, 20, resamples=500, seed=1)
    monkeypatch.setattr(winrates, "_BLOCK", 700)
    assert bootstrap(values, index, 20, resamples=500, seed=1) == first
    assert bootstrap(values, index, 20, resamples=500, seed=2) != first


def test_clustered_intervals_cover_the_true_win_rate() -> None:
    """Five seeds per prompt share most of their luck: intervals that ignored the prompts would cover far less."""
    rng = np.random.default_rng(11)
    prompts, seeds, simulations = 120, 5, 300
    index = np.repeat(np.arange(prompts), seeds)
    # P(N(0.3, sqrt(1 + 0.5^2)) > 0)
    truth = 0.5 * (1 + math.erf(0.3 / math.sqrt(2 * 1.25)))
    covered = naive = 0
    for number in range(simulations):
        margin = 0.3 + rng.normal(0, 1, prompts)[index] + rng.normal(0, 0.5, prompts * seeds)
        wins = (margin > 0).astype(np.float64)[:, None]
        (interval,) = bootstrap(wins, index, prompts, resamples=400, seed=number)
        covered += interval.low <= truth <= interval.high
        half = 1.96 * math.sqrt(wins.mean() * (1 - wins.mean()) / len(wins))
        naive += abs(wins.mean() - truth) <= half
    assert 0.91 <= covered / simulations <= 0.985
    assert naive / simulations < 0.8


def test_misfitting_scores_are_refused() -> None:
    with pytest.raises(EvaluationError, match="different scorers"):
        compare({"clip": [1.0, 2]}, {"hpsv2": [1.0, 2]}, ["a", "b"])
    with pytest.raises(EvaluationError, match="two prompts"):
        compare({"clip": [1.0, 2]}, {"clip": [1.0, 2]}, ["a", "a"])
    with pytest.raises(EvaluationError, match="not finite"):
        compare({"clip": [1.0, np.nan]}, {"clip": [1.0, 2]}, ["a", "b"])
    with pytest.raises(EvaluationError, match="shapes"):
        compare({"clip": [1.0]}, {"clip": [1.0, 2]}, ["a", "b"])
