"""The sign test and its correction against numbers worked out by hand; the power statement against simulation."""

import math

import numpy as np
import pytest

from pipeline_lib.evaluation.significance import binomial_two_sided, detection, holm, power, sign_test


def test_holm_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(("won", "trials"), [(0, 0), (5, 10), (9, 10), (0, 6), (130, 200)])
def test_binomial_tail_equals_the_exact_fraction(won: int, trials: int) -> None:
    fewer = min(won, trials - won)
    exact = sum(math.comb(trials, k) for k in range(fewer + 1)) * 2 / 2**trials
    assert binomial_two_sided(won, trials) == pytest.approx(min(1.0, exact), rel=1e-10)


def test_sign_test_counts_a_prompt_once_and_drops_ties() -> None:
    balances = np.array([0.5, 0.5, 0.5, -0.5, 0.0, 0.5, 0.5, -0.5])
    index = np.array([0, 0, 0, 1, 2, 3, 4, 4])
    assert sign_test(balances, index) == pytest.approx(binomial_two_sided(2, 3))


def test_more_seeds_are_not_more_evidence() -> None:
    """Copies of every row: a test over rows would become significant, the one over prompts stays as it is."""
    balances, index = np.array([0.5, 0.5, 0.5, 0.5, -0.5]), np.arange(5)
    once = sign_test(balances, index)
    assert once == pytest.approx(12 / 32)
    assert sign_test(np.tile(balances, 20), np.tile(index, 20)) == once


@pytest.mark.parametrize(("prompts", "rate"), [(500, 0.53), (500, 0.6), (64, 0.7), (100, 0.5)])
def test_power_is_how_often_the_test_rejects(prompts: int, rate: float) -> None:
    won = np.random.default_rng(0).binomial(prompts, rate, 20_000)
    p_values = {count: binomial_two_sided(count, prompts) for count in set(won.tolist())}
    rejected = np.mean([p_values[count] <= 0.05 for count in won.tolist()])
    assert detection(prompts, rate) == pytest.approx(rejected, abs=4 * math.sqrt(0.25 / 20_000))


def test_power_statement() -> None:
    found = power(500)
    assert found.probability == pytest.approx(0.25, abs=0.01)
    assert detection(500, found.detectable) == pytest.approx(0.8, abs=1e-6)
    assert found.sentence.startswith("With 500 prompts a true 53% is detected with probability 0.2")
    assert detection(500, 0.5) <= 0.05
    assert detection(5, 0.99) == 0.0, "five prompts are never significant"
    assert power(2000).probability > found.probability
