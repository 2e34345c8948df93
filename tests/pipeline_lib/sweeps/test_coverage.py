"""How often the 95% interval holds the truth, in simulated sweeps of several kinds."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from pipeline_lib.sweeps.estimates import estimate
from tests.pipeline_lib.sweeps.simulated import World

EFFECTS: Mapping[str, Mapping[str, float]] = {
    "setting": {"s0": 1.0},
    "difference": {"s0": 1.0, "s1": -1.0},
    "from two": {"s0": 1.0, "s1": -0.5, "s2": -0.5},
}


def coverage(world: World, sweeps: int, *, won: bool = False) -> dict[str, float]:
    """The share of sweeps whose interval holds the truth, by effect; `won` judges by the sign alone."""
    rng = np.random.default_rng(11)
    held = dict.fromkeys(EFFECTS, 0)
    for _ in range(sweeps):
        drawn = world.draw(rng)
        values = world.values((drawn > 0).astype(np.float64) if won else drawn)
        for name, weights in EFFECTS.items():
            truth = 0.5 * sum(weights.values()) if won else 0.0
            found = estimate(values, "gain/true", weights, truth)
            held[name] += found.low <= truth <= found.high
    return {name: count / sweeps for name, count in held.items()}


def between(found: Mapping[str, float], low: float, high: float, sweeps: int) -> None:
    """Every share within these, give or take what so many sweeps leave open (one time in a thousand)."""
    for name, share in found.items():
        wide = 3.3 * math.sqrt(0.05 * 0.95 / sweeps)
        assert low - wide <= share <= high + wide, f"{name}: {share}"


@pytest.mark.parametrize(
    "world",
    [
        World(),
        World(own_seed=0.0, rest=0.0),
        World(prompt=0.0, own_prompt=0.0, own_seed=0.0),
        World(own_seed=0.05),
        World(own_seed=0.5),
        World(seed=0.03, own_seed=0.03),
        World(settings=12, own_seed=0.05),
        World(seeds=5, own_seed=0.05),
    ],
    ids=[
        "as measured",
        "prompts alone",
        "rest alone",
        "seeds matter",
        "seeds alone",
        "shared seeds",
        "12 settings",
        "5 seeds",
    ],
)
def test_interval_holds_the_truth(world: World) -> None:
    between(coverage(world, 400), 0.94, 0.98, 400)


def test_interval_of_a_share_holds_the_truth() -> None:
    between(coverage(World(own_seed=0.05), 400, won=True), 0.94, 0.98, 400)


@pytest.mark.parametrize(("factor", "low"), [(2.0, 0.90), (3.0, 0.84)])
def test_interval_where_one_setting_is_more_uneven(factor: float, low: float) -> None:
    """The weak side of taking all settings' seeds together, which the docstring of `estimates` states."""
    between(coverage(World(own_seed=0.05, uneven=[factor]), 400), low, 0.97, 400)


@pytest.mark.slow
@pytest.mark.parametrize("own_seed", [0.02, 0.05, 0.5])
def test_interval_of_five_settings_holds_the_truth_in_many_sweeps(own_seed: float) -> None:
    between(coverage(World(own_seed=own_seed), 4000), 0.945, 0.975, 4000)
