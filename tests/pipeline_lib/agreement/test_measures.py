"""The numbers, against definitions written out."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline_lib.agreement.measures import agreement_of, conviction, dispute, spearman
from pipeline_lib.core.intervals import wilson
from pipeline_lib.labels.table import preferences
from tests.pipeline_lib.labels.tables import frame, random_frame


def test_agreement_leaves_out_who_abstains() -> None:
    table = frame(
        [1.0, 1.0, 0.0, 0.5, None], aesthetic=[1.0, 1.0, 1.0, 1.0, 1.0], pickscore=[1.0, -1.0, -1.0, 0.0, None]
    )
    found = agreement_of(table, ["aesthetic", "pickscore"])
    assert (found["pairs"], found["ties"], found["unlabelled"]) == (5, 1, 1)
    aesthetic, pickscore = found["accuracy"]["aesthetic"], found["accuracy"]["pickscore"]
    assert (aesthetic["n"], aesthetic["agree"], aesthetic["ties"], aesthetic["missing"]) == (3, 2, 0, 0)
    assert aesthetic["accuracy"] == 2 / 3 and (aesthetic["low"], aesthetic["high"]) == wilson(2, 3)
    assert (pickscore["n"], pickscore["agree"], pickscore["ties"], pickscore["missing"]) == (3, 2, 1, 1)
    human = found["agreement"]["human|pickscore"]
    assert human["kappa"] == pytest.approx(0.4)  # (2/3 - 4/9) / (1 - 4/9)
    assert human["ranked"] == 4
    both = found["agreement"]["aesthetic|pickscore"]
    assert (both["n"], both["agree"], both["rate"]) == (3, 1, 1 / 3)
    assert both["kappa"] == pytest.approx(0)  # one of them always says the same


def test_what_is_not_defined_is_none() -> None:
    found = agreement_of(frame([None, 0.5], clip=[0.0, None]), ["clip"])
    assert found["accuracy"]["clip"] | {"ties": 1, "missing": 1} == found["accuracy"]["clip"]
    assert found["accuracy"]["clip"]["accuracy"] is None
    pair = found["agreement"]["human|clip"]
    assert pair == {"n": 0, "agree": 0, "rate": None, "kappa": None, "ranked": 0, "spearman": None}
    same = agreement_of(frame([1.0, 1.0], clip=[1.0, 2.0]), ["clip"])["agreement"]["human|clip"]
    assert same["kappa"] is None, "chance alone would make them agree"


def ranks(values: np.ndarray) -> np.ndarray:
    """Mean ranks by counting."""
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


@pytest.mark.parametrize("seed", range(5))
def test_spearman_is_the_correlation_of_ranks_over_both_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(-4, 5, 60).astype(float)  # ties, opposite values and zeros
    second = first + rng.integers(-3, 4, 60)
    mirrored = [ranks(np.concatenate([values, -values])) for values in (first, second)]
    assert spearman(first, second) == pytest.approx(np.corrcoef(*mirrored)[0, 1])
    swapped = rng.choice([-1.0, 1.0], 60)
    assert spearman(first * swapped, second * swapped) == pytest.approx(spearman(first, second))
    assert spearman(first, 3 * first) == pytest.approx(1) and spearman(first, -first) == pytest.approx(-1)


def test_rank_correlation_is_over_the_pairs_both_know() -> None:
    table = frame([1.0, 0.0, None], a=[1.0, 2.0, 3.0], b=[None, 2.0, -3.0])
    found = agreement_of(table, ["a", "b"])["agreement"]
    assert found["a|b"]["ranked"] == 2
    assert found["a|b"]["spearman"] == pytest.approx(spearman(np.array([2.0, 3]), np.array([2.0, -3])))


def test_noisier_scorers_agree_less() -> None:
    table = random_frame(4000, good=0.2, bad=2.0)
    found = agreement_of(table, ["good", "bad"])
    good, bad = found["accuracy"]["good"], found["accuracy"]["bad"]
    assert good["low"] > bad["high"]
    assert found["agreement"]["human|good"]["kappa"] > found["agreement"]["human|bad"]["kappa"]
    assert found["agreement"]["human|good"]["spearman"] > found["agreement"]["human|bad"]["spearman"]


def test_conviction_is_the_share_of_smaller_differences() -> None:
    found = conviction(np.array([0.1, -5.0, np.nan, 0.0, 2.0]))
    np.testing.assert_allclose(found, [1.5 / 4, -3.5 / 4, 0, 0, 2.5 / 4])


def test_disputes_need_convinced_scorers_on_both_sides() -> None:
    table = frame([1.0] * 4, a=[9.0, 9.0, 1.0, 1.0], b=[9.0, -9.0, -1.0, 9.0], c=[9.0, 0.0, 9.0, None])
    values = dispute(preferences(table, ["a", "b", "c"]), ["a", "b", "c"])
    assert values[0] == values[3] == 0, "nobody contradicts"
    assert values[1] > values[2] > 0


def test_wilson_interval_solves_its_equation() -> None:
    for successes, n in [(8, 10), (0, 10), (10, 10), (500, 1000)]:
        for p in wilson(successes, n):
            assert abs(p - successes / n) == pytest.approx(1.959964 * (p * (1 - p) / n) ** 0.5, abs=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)
