"""Verdicts on simulated sweeps: how often the rules call what right and wrong, and the words about it."""

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest

from pipeline_lib.core.errors import ConfigError
from pipeline_lib.sweeps.claim import Contrast, Finding
from pipeline_lib.sweeps.verdict import judge, rule
from tests.pipeline_lib.sweeps.simulated import World

SWEEPS = 200
WORLD = World(settings=4, prompts=32, own_seed=0.03)
"""The standard error of a difference is about 0.1."""
NOISY = World(settings=4, prompts=32, own_seed=0.3)
WILD = World(settings=4, prompts=32, own_seed=1.5)

SUPERIORITY = [Contrast("gain/true", {"s0": 1.0, "s1": -1.0}, 0.0, 0.6)]
NON_INFERIORITY = [Contrast("gain/true", {"s0": 1.0, "s1": -1.0}, -0.3, -0.3)]
OVER_THE_BASE = [Contrast("gain/true", {"s0": 1.0}, 0.0, 0.6)]
MONOTONE = [Contrast("gain/true", {a: 1.0, b: -1.0}, 0.0, 0.6) for a, b in (("s0", "s1"), ("s1", "s2"), ("s2", "s3"))]
DIFFERENCE_OF_DIFFERENCES = [Contrast("gain/true", {"s0": 1.0, "s1": -1.0, "s2": -1.0, "s3": 1.0}, 0.0, 0.8)]


def verdicts(contrasts: list[Contrast], means: Mapping[str, float], world: World = WORLD) -> Counter[str]:
    """Verdicts on many sweeps with these true means."""
    rng = np.random.default_rng(7)
    finding = Finding("f", "says", tuple(contrasts))
    return Counter(judge(world.frame(world.draw(rng, means)), finding).word for _ in range(SWEEPS))


def at_most(share: float) -> float:
    """The largest count that `SWEEPS` sweeps show with this true share, but for one time in a thousand."""
    return SWEEPS * share + 3.1 * math.sqrt(SWEEPS * share * (1 - share))


@pytest.mark.parametrize(
    ("contrasts", "means"),
    [
        (SUPERIORITY, {"s0": 0.6}),
        (NON_INFERIORITY, {"s0": 0.3}),
        (OVER_THE_BASE, {"s0": 0.6}),
        (MONOTONE, {"s0": 1.8, "s1": 1.2, "s2": 0.6}),
        (DIFFERENCE_OF_DIFFERENCES, {"s0": 0.8}),
    ],
    ids=["superiority", "non-inferiority", "over the base", "monotone", "difference of differences"],
)
def test_a_known_effect_is_reproduced(contrasts: list[Contrast], means: dict[str, float]) -> None:
    assert verdicts(contrasts, means)["reproduced"] >= 0.97 * SWEEPS


@pytest.mark.parametrize(
    ("contrasts", "means"),
    [
        (SUPERIORITY, {}),
        (NON_INFERIORITY, {"s0": -0.9}),
        (OVER_THE_BASE, {}),
        (MONOTONE, {"s0": 1.2, "s1": 0.6, "s2": 0.6, "s3": 0.0}),
        (DIFFERENCE_OF_DIFFERENCES, {}),
    ],
    ids=["superiority", "non-inferiority", "over the base", "monotone", "difference of differences"],
)
def test_no_effect_is_not_reproduced(contrasts: list[Contrast], means: dict[str, float]) -> None:
    found = verdicts(contrasts, means)
    assert found["not reproduced"] >= 0.97 * SWEEPS
    assert found["reproduced"] <= at_most(0.025)


@pytest.mark.parametrize("means", [{}, {"s0": 0.3}], ids=["no effect", "half of the effect"])
@pytest.mark.parametrize("contrasts", [SUPERIORITY, OVER_THE_BASE], ids=["superiority", "over the base"])
def test_wide_noise_is_undecided(contrasts: list[Contrast], means: dict[str, float]) -> None:
    assert verdicts(contrasts, means, WILD)["undecided"] >= 0.8 * SWEEPS


@pytest.mark.parametrize(
    ("contrasts", "untrue"),
    [
        (SUPERIORITY, {}),
        (NON_INFERIORITY, {"s0": -0.3}),
        (OVER_THE_BASE, {}),
        (MONOTONE, {"s0": 1.2, "s1": 0.6, "s2": 0.6}),
        (DIFFERENCE_OF_DIFFERENCES, {"s0": 0.5, "s2": 0.5}),
    ],
    ids=["superiority", "non-inferiority", "over the base", "monotone", "difference of differences"],
)
@pytest.mark.parametrize("world", [WORLD, NOISY], ids=["prompts matter", "seeds matter"])
def test_the_largest_untrue_effect_is_seldom_reproduced(
    contrasts: list[Contrast], untrue: dict[str, float], world: World
) -> None:
    """At `above` exactly; and for a chain of which one step is missing."""
    assert verdicts(contrasts, untrue, world)["reproduced"] <= at_most(0.025)


@pytest.mark.parametrize("world", [WORLD, NOISY], ids=["prompts matter", "seeds matter"])
@pytest.mark.parametrize(
    ("contrasts", "means", "times"),
    [
        (SUPERIORITY, {"s0": 0.6}, 1),
        (OVER_THE_BASE, {"s0": 0.6}, 1),
        (MONOTONE, {"s0": 1.8, "s1": 1.2, "s2": 0.6}, 3),
    ],
    ids=["superiority", "over the base", "monotone"],
)
def test_an_effect_worth_having_is_seldom_called_not_reproduced(
    contrasts: list[Contrast], means: dict[str, float], times: int, world: World
) -> None:
    assert verdicts(contrasts, means, world)["not reproduced"] <= at_most(times * 0.025)


def test_json_has_every_effect_with_its_rule() -> None:
    outcomes = WORLD.frame(WORLD.draw(np.random.default_rng(0), {"s0": 0.6}))
    contrasts = (SUPERIORITY[0], Contrast("gain/true", {"s2": 1.0, "s3": -1.0}, 0.0, 0.6))
    found = judge(outcomes, Finding("f", "It works.", contrasts)).as_json()
    assert (found["name"], found["says"], found["verdict"]) == ("f", "It works.", "not reproduced")
    first, second = found["contrasts"]
    assert set(first) == {
        "measure", "of", "above", "below", "interval", "standard_error", "df", "p", "verdict"
    }  # fmt: skip
    assert (first["verdict"], second["verdict"]) == ("reproduced", "not reproduced")
    point, low, high = first["interval"]
    assert 0.0 < low < point < high
    assert first["p"] < 0.001 < second["p"]
    assert "gain/true of s0 − s1: reproduced if the whole 95% interval lies above 0, not reproduced" in found["rule"]
    assert "reproduced if all are" in found["rule"]


def test_rule_of_one_contrast() -> None:
    assert rule(Finding("f", "x", tuple(NON_INFERIORITY))) == (
        "gain/true of s0 − s1: reproduced if the whole 95% interval lies above -0.3, not reproduced if it lies below "
        "-0.3; else undecided."
    )


def test_fewer_than_three_seeds_are_no_evidence() -> None:
    outcomes = WORLD.frame(WORLD.draw(np.random.default_rng(0))).filter(pl.col("seed") < 2)
    with pytest.raises(ConfigError, match=r"s0 has 2 training seeds[\s\S]*3 or more"):
        judge(outcomes, Finding("f", "x", tuple(SUPERIORITY)))
