from __future__ import annotations

import numpy as np
import pytest

from pipeline_lib.shapes import annotators, truth


def parts_of(vividness: float, colour: float = 1.0, count: int = 4000) -> np.ndarray:
    parts = np.ones((count, len(truth.ATTRIBUTES)), dtype=np.float32)
    parts[:, truth.ATTRIBUTES.index("vividness")] = vividness
    parts[:, truth.ATTRIBUTES.index("colour")] = colour
    return parts


def test_the_minority_has_its_share_and_exactly_one_reversed_taste() -> None:
    people = annotators.crowd(200, seed=3)
    assert people.is_minority.mean() == pytest.approx(annotators.MINORITY_SHARE, abs=0.005)
    column = truth.ATTRIBUTES.index(annotators.REVERSED)
    assert ((people.weights[:, column] < 0) == people.is_minority).all()
    assert (np.delete(people.weights, column, axis=1) > 0).all()


def test_the_minority_prefers_muted_colours_and_agrees_otherwise() -> None:
    people = annotators.crowd(200, seed=3)
    rng = np.random.default_rng(0)
    for minority, vivid_wins in ((False, True), (True, False)):
        weights = rng.choice(people.weights[people.is_minority == minority], 4000)
        verdict = annotators.judge(parts_of(1.0), parts_of(0.4), weights, rng)
        assert ((verdict == 1).mean() > (verdict == 0).mean()) == vivid_wins
        assert (annotators.judge(parts_of(1.0), parts_of(1.0, colour=0.2), weights, rng) == 1).mean() > 0.8


def test_choices_follow_bradley_terry() -> None:
    weights = np.tile(np.array(list(truth.WEIGHTS.values()), dtype=np.float32), (20000, 1))
    better, worse = parts_of(0.9, count=20000), parts_of(0.6, count=20000)
    verdict = annotators.judge(better, worse, weights, np.random.default_rng(0), temperature=0.5, tie_width=0.0)
    gap = truth.WEIGHTS["vividness"] * 0.3
    assert verdict.mean() == pytest.approx(1 / (1 + np.exp(-gap / 0.5)), abs=0.01)


def test_equal_images_are_ties_or_coin_tosses() -> None:
    weights = np.tile(np.array(list(truth.WEIGHTS.values()), dtype=np.float32), (4000, 1))
    verdict = annotators.judge(parts_of(1.0), parts_of(1.0), weights, np.random.default_rng(0))
    assert 0.05 < (verdict == 0.5).mean() < 0.6
    assert abs((verdict == 1).mean() - (verdict == 0).mean()) < 0.05


def test_the_same_seed_gives_the_same_people() -> None:
    assert (annotators.crowd(50, seed=1).weights == annotators.crowd(50, seed=1).weights).all()
    assert (annotators.crowd(50, seed=1).weights != annotators.crowd(50, seed=2).weights).any()
