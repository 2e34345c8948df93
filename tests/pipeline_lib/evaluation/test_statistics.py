"""Intervals: coverage in simulations with a known truth, exact symmetry, and what happens at the edges."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from pipeline_lib.evaluation import statistics
from pipeline_lib.evaluation.statistics import RESAMPLES, Interval, bootstrap, shares

SIMULATIONS = 1000


def simulate(
    rate: float, prompts: int, seeds: int, between: float, tie: float, generator: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Many evaluations at once, one per column: outcomes minus one half, each row's prompt, and the true win rate.

    A model's margin is normal and shares the part `between` of its variance among a prompt's seeds; it wins a row
    with probability `rate`, except that margins within `tie` are ties.
    """
    rng = np.random.default_rng(generator)
    index = np.repeat(np.arange(prompts), seeds)
    mean = NormalDist().inv_cdf(rate)
    shared, own = (rng.normal(size=(n, SIMULATIONS)) for n in (prompts, len(index)))
    margin = mean + math.sqrt(between) * shared[index] + math.sqrt(1 - between) * own
    above, below = 1 - NormalDist(mean).cdf(tie), NormalDist(mean).cdf(-tie)
    return np.where(np.abs(margin) <= tie, 0.0, 0.5 * np.sign(margin)), index, above + (1 - above - below) / 2


def share_intervals(
    balances: np.ndarray, index: np.ndarray, prompts: int, resamples: int = RESAMPLES
) -> list[Interval]:
    return shares(bootstrap(balances, index, prompts, resamples=resamples), balances, index, prompts)


def coverage(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([i.low <= truth + 1e-12 and truth - 1e-12 <= i.high for i in intervals]))


@pytest.mark.parametrize("rate", [0.5, 0.7])
@pytest.mark.parametrize(
    ("prompts", "seeds", "between", "tie"),
    [(50, 4, 0.6, 0.0), (50, 4, 0.6, 0.3), (50, 1, 0.0, 0.1), (256, 2, 0.8, 0.0)],
)
def test_shares_are_covered_as_often_as_claimed(
    rate: float, prompts: int, seeds: int, between: float, tie: float
) -> None:
    balances, index, truth = simulate(rate, prompts, seeds, between, tie, 11)
    assert 0.93 <= coverage(share_intervals(balances, index, prompts), truth) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.6, 0.7, 0.8])
@pytest.mark.parametrize(("prompts", "seeds"), [(30, 4), (50, 4), (120, 5), (500, 1)])
@pytest.mark.parametrize("between", [0.3, 0.9])
@pytest.mark.parametrize("tie", [0.0, 0.3])
def test_shares_are_covered_in_every_setting(
    rate: float, prompts: int, seeds: int, between: float, tie: float
) -> None:
    """4,000 simulations each: the standard error is 0.35 points. At 80% with few prompts Wilson's interval widens."""
    covered = [
        coverage(share_intervals(balances, index, prompts), truth)
        for balances, index, truth in (simulate(rate, prompts, seeds, between, tie, 20 + i) for i in range(4))
    ]
    assert 0.93 <= float(np.mean(covered)) <= (0.98 if rate > 0.7 and prompts <= 50 else 0.97)


@pytest.mark.parametrize(("rate", "prompts"), [(0.9, 50), (0.97, 50), (0.97, 20), (0.9, 10)])
def test_near_certain_wins_are_not_overstated(rate: float, prompts: int) -> None:
    """Where few prompts dissent, coverage is at least 92%, and may be up to 100%. The bootstrap alone fails there."""
    balances, index, truth = simulate(rate, prompts, 4, 0.6, 0.0, 3)
    assert coverage(share_intervals(balances, index, prompts), truth) >= 0.92
    if rate > 0.95:
        plain = [Interval(i.point + 0.5, i.low + 0.5, i.high + 0.5) for i in bootstrap(balances, index, prompts)]
        assert coverage(plain, truth) < 0.91


def test_ignoring_the_prompts_would_cover_far_less() -> None:
    balances, index, truth = simulate(0.7, 120, 5, 0.8, 0.0, 5)
    rows = np.arange(len(index))
    assert coverage(share_intervals(balances, index, 120), truth) >= 0.93
    assert coverage(share_intervals(balances[:, :200], rows, len(rows), resamples=999), truth) < 0.8


def test_mean_differences_are_covered_with_few_uneven_prompts() -> None:
    rng = np.random.default_rng(4)
    index = np.repeat(np.arange(50), rng.integers(1, 6, 50))
    values = 0.3 + rng.normal(size=(50, SIMULATIONS))[index] + rng.normal(size=(len(index), SIMULATIONS))
    assert 0.93 <= coverage(bootstrap(values, index, 50), 0.3) <= 0.97


def test_negated_values_give_the_negated_interval_bit_by_bit() -> None:
    rng = np.random.default_rng(1)
    values, index = rng.normal(0.1, 1, (90, 3)), np.repeat(np.arange(30), 3)
    for one, other in zip(bootstrap(values, index, 30), bootstrap(-values, index, 30), strict=True):
        assert (one.point, one.low, one.high) == (-other.point, -other.high, -other.low)


def test_the_point_is_the_mean_and_lies_within() -> None:
    rng = np.random.default_rng(2)
    values, index = rng.exponential(size=(60, 2)) ** 3, np.sort(rng.integers(0, 12, 60))
    for column, interval in enumerate(bootstrap(values, index, 12)):
        assert interval.point == pytest.approx(values[:, column].mean())
        assert interval.low < interval.point < interval.high


def test_seeded_and_independent_of_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((40, 2))
    index = np.repeat(np.arange(20), 2)
    first = bootstrap(values, index, 20, resamples=499, seed=1)
    monkeypatch.setattr(statistics, "_BLOCK", 700)
    assert bootstrap(values, index, 20, resamples=499, seed=1) == first
    assert bootstrap(values, index, 20, resamples=499, seed=2) != first


@pytest.mark.parametrize("prompts", [2, 20, 500])
def test_nothing_but_wins_gets_the_exact_binomial_interval(prompts: int) -> None:
    (won,) = share_intervals(np.full((prompts, 1), 0.5), np.arange(prompts), prompts)
    assert won.point == won.high == 1.0
    assert won.low**prompts == pytest.approx(0.025)
    (lost,) = share_intervals(np.full((prompts, 1), -0.5), np.arange(prompts), prompts)
    assert (lost.point, lost.low, lost.high) == (0.0, 0.0, 1.0 - won.low)


def test_nothing_but_ties_leaves_as_much_open_as_nothing_but_wins() -> None:
    (tied,) = share_intervals(np.zeros((20, 1)), np.arange(20), 20)
    unlike = 1 - 0.025 ** (1 / 20)
    assert (tied.low, tied.point, tied.high) == pytest.approx((0.5 - unlike / 2, 0.5, 0.5 + unlike / 2))


def test_intervals_of_shares_stay_between_0_and_1_and_shrink_with_prompts() -> None:
    widths = []
    for prompts in (5, 50, 500):
        balances = np.where(np.arange(prompts) % 5 == 0, -0.5, 0.5)[:, None]
        (interval,) = share_intervals(balances, np.arange(prompts), prompts)
        assert 0.0 <= interval.low < interval.point == 0.8 < interval.high <= 1.0
        widths.append(interval.high - interval.low)
    assert widths == sorted(widths, reverse=True)
