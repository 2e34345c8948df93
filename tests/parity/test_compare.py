"""The comparison itself: what it must refuse."""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity.compare import ROWS, compare, result, table

ROW = ROWS[0]


def side(scores: list[float], pixel: float = 0.5) -> dict[str, np.ndarray]:
    pixels = np.full((len(scores), 3, 2, 2), 0.5, np.float32)
    pixels[1, 2, 0, 1] = pixel
    return {f"{ROW.scorer}/pixels": pixels, f"{ROW.scorer}/scores": np.array(scores)}


def test_equal_sides_agree() -> None:
    same = result(ROW, side([0.2, 0.3]), side([0.2, 0.3]))
    assert same.agrees
    assert "agrees" in table([same])


@pytest.mark.parametrize(
    ("ours", "original"),
    [
        (side([0.2, 0.3], pixel=0.500003), side([0.2, 0.3])),
        (side([0.2, 0.30004]), side([0.2, 0.3])),
        (side([0.2, -0.3]), side([0.2, 0.3])),
        (side([0.2, float("nan")]), side([0.2, 0.3])),
        (side([0.2, 0.3], pixel=float("nan")), side([0.2, 0.3])),
        (side([0.3, 0.3]), side([0.3, 0.3])),  # the image does not matter
    ],
)
def test_differences_are_refused(ours: dict[str, np.ndarray], original: dict[str, np.ndarray]) -> None:
    found = result(ROW, ours, original)
    assert not found.agrees
    assert "DIFFERS" in table([found])


def test_another_number_of_images_is_an_error() -> None:
    with pytest.raises(ValueError, match="hpsv2"):
        result(ROW, side([0.2, 0.3, 0.4]), side([0.2, 0.3]))


def test_unknown_scorer() -> None:
    with pytest.raises(ValueError, match="hpsv3"):
        compare(["hpsv3"])
