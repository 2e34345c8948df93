"""Exact sign test over prompts, Holm's correction over scorers, and what a number of prompts can detect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
TARGET_POWER = 0.8


def sign_test(balances: NDArray[np.float64], index: NDArray[np.integer]) -> float:
    """Exact two-sided sign test over clusters: how likely so uneven a split of won and lost prompts is by chance.

    `balances` (n,) are outcomes minus one half. A prompt counts once, whatever its number of seeds: it is won when its
    balances add up to more than 0, lost when to less; tied prompts are left out.
    """
    sums = np.bincount(index, balances)
    won, lost = int(np.sum(sums > 1e-9)), int(np.sum(sums < -1e-9))
    return binomial_two_sided(won, won + lost)


def binomial_two_sided(successes: int, trials: int) -> float:
    """P(a fair coin is at least as uneven as `successes` of `trials`); 1 for no trials."""
    if not trials:
        return 1.0
    fewer = min(successes, trials - successes)
    chosen = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(fewer + 1)]
    return min(1.0, 2.0 * math.fsum(math.exp(term - trials * math.log(2.0)) for term in chosen))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the order given (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


@dataclass(frozen=True)
class Power:
    """What the sign test at the 5% level finds with `prompts` prompts, each won or lost independently."""

    prompts: int
    rate: float
    """A true win rate, 0..1, not 0.5 ..."""
    probability: float
    """... is detected with this probability."""
    detectable: float
    """The smallest true win rate above one half that is detected with a probability of 80%."""

    @property
    def sentence(self) -> str:
        """In words."""
        return (
            f"With {self.prompts} prompts a true {self.rate:.0%} is detected with probability {self.probability:.2f}, "
            f"and {self.detectable:.1%} with probability {TARGET_POWER:g} (two-sided sign test at {LEVEL:.0%}, one "
            "scorer, no ties)."
        )


def power(prompts: int, rate: float = 0.53) -> Power:
    """The power statement for a number of prompts (at least 1). Below 6 prompts nothing is significant."""
    low, high = 0.5, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if detection(prompts, middle) >= TARGET_POWER else (middle, high)
    return Power(prompts, rate, detection(prompts, rate), high)


def detection(prompts: int, rate: float) -> float:
    """P(the two-sided sign test at the 5% level rejects) when a prompt is won with probability `rate`."""
    from scipy.stats import binom

    # The largest count of lost prompts that is still significant; -1 when none is.
    limit = int(binom.ppf(LEVEL / 2, prompts, 0.5))
    while limit >= 0 and 2 * binom.cdf(limit, prompts, 0.5) > LEVEL:
        limit -= 1
    return float(binom.cdf(limit, prompts, rate) + binom.sf(prompts - limit - 1, prompts, rate))
