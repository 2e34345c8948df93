"""Measures, values and contrasts in words."""

from __future__ import annotations

import pytest

from pipeline_lib.sweeps.wording import change, combination, contrasted, level, measure_label


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        ("win/clip", "Win rate, CLIP"),
        ("gain/average", "Gain, Scorer average"),
        ("diversity", "Diversity"),
        ("implicit/sd-1.5", "Implicit accuracy, sd-1.5"),
        ("train/u_auroc", "Training, u auroc"),
        ("labels/agreement/hpsv2", "Labels, agreement HPSv2"),
        ("new/thing", "new, thing"),
    ],
)
def test_measures(measure: str, words: str) -> None:
    assert measure_label(measure) == words


def test_levels_and_changes() -> None:
    assert level("win/clip", 0.581, True) == "58.1%" and level("train/loss", 0.693, False) == "0.693"
    assert level("win/clip", -0.02, True) == "−2.0%", "the end of an interval"
    assert [level("gain/clip", value, False) for value in (0.2, 0.0, -0.2)] == ["+0.200", "0.000", "−0.200"]
    assert [change(value, True) for value in (0.051, 0.0, -0.051)] == ["+5.1", "0.0", "−5.1"]


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ({"clean": 1, "flip30": -1}, "clean − flip30"),
        ({"flip30": -1, "clean": 1.0}, "clean − flip30"),
        ({"a": 0.5, "b": 0.5, "c": -1}, "0.5 × a + 0.5 × b − c"),
        ({"a": -2}, "− 2 × a"),
    ],
)
def test_combinations(of: dict[str, float], words: str) -> None:
    assert combination(of) == words


def test_contrasts_are_differences_or_levels() -> None:
    measures = {"win/clip": {"share": True}, "gain/clip": {"share": False}}
    apart = {"measure": "win/clip", "of": {"a": 1, "b": -1}}
    assert contrasted(apart, measures, 0.03) == "+3.0 points"
    assert contrasted(apart, measures, 0.03, with_unit=False) == "+3.0"
    assert contrasted({"measure": "win/clip", "of": {"a": 1}}, measures, 0.5) == "50.0%"
    assert contrasted({"measure": "gain/clip", "of": {"a": 1, "b": -1}}, measures, 0.1) == "+0.100"
