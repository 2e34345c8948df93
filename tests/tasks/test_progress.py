"""Rates of work that takes from a moment to hours."""

from __future__ import annotations

import pytest

from tasks.progress import rate_text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.0, "0.0 models/s"),
        (1234.56, "1234.6 models/s"),
        (1.0, "1.0 models/s"),
        (0.5, "30.0 models/min"),
        (1 / 60, "1.0 models/min"),
        (1 / 90, "40.0 models/h"),
        (1e-5, "0.0 models/h"),
    ],
)
def test_a_rate_is_in_the_shortest_period_that_has_one(rate: float, text: str) -> None:
    assert rate_text(rate, "models") == text
