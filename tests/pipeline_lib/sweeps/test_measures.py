"""Names of measures and what they mean."""

import pytest

from pipeline_lib.core.errors import UnknownNameError
from pipeline_lib.scoring.scorers import SCORERS
from pipeline_lib.sweeps.measures import measure_of


@pytest.mark.parametrize("judge", ["true", "average", "quality", *SCORERS.names()])
def test_every_judge_wins_and_gains(judge: str) -> None:
    assert (measure_of(f"win/{judge}").null, measure_of(f"win/{judge}").share) == (0.5, True)
    assert (measure_of(f"gain/{judge}").null, measure_of(f"gain/{judge}").share) == (0.0, False)


@pytest.mark.parametrize(
    ("name", "kind", "of", "null", "units"),
    [
        ("diversity", "diversity", "", 0.0, True),
        ("implicit", "implicit", "", 0.5, True),
        ("implicit/shapes/base", "implicit", "shapes/base", 0.5, True),
        ("train/u_auroc", "train", "u_auroc", 0.5, False),
        ("train/loss", "train", "loss", 0.0, False),
        ("train/accuracy_t3", "train", "accuracy_t3", 0.5, False),
        ("labels/tied", "labels", "tied", 0.0, False),
        ("labels/agreement/clip", "labels", "agreement/clip", 0.5, False),
    ],
)
def test_kinds(name: str, kind: str, of: str, null: float, units: bool) -> None:
    found = measure_of(name)
    assert (found.kind, found.of, found.null, found.has_units) == (kind, of, null, units)
    assert found.words


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("win/qualty", "'quality'"),
        ("gain/", "gain/<judge>"),
        ("diversty", "'diversity'"),
        ("diversity/x", "diversity"),
        ("implicit/", "implicit"),
        ("train/", "train/<metric>"),
        ("labels/agreement/", "labels/agreement/<voter>"),
        ("", "win/<judge>"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        measure_of(name)
    assert near in str(error.value)
