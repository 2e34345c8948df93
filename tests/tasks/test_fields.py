"""Bounds of flows' parameters as pydantic checks them; the server: tests/integration/test_bad_parameters.py."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline_lib.core.errors import excerpt
from tasks import fields
from tasks.values import Grid, Recipe, TrainSettings, bounded


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (fields.Seed, [0, 2**63 - 1], [-1, 2**63, 10**30, math.inf, math.nan, 1.5, "x"]),
        (fields.Steps, [1, 1_000_000], [0, -3, 10**7, 10**400]),
        (fields.Rate, [1e-8, 1], [0, -1e-5, 2, math.inf, -math.inf, math.nan]),
        (fields.Share, [0, 0.45, 1], [-0.1, 1.1, math.nan]),
        (fields.Guidance, [0, 7.5], [-1, math.inf]),
        (fields.Location, ["/data/pairs", "s3://b/p", "a..b/c"], ["../x", "a/../b", "s3://b/..", "a\0b", "x" * 5000]),
        (fields.Text, ["train", ""], ["a\0", "\ud800", "x" * 5000, 3]),
        (Recipe, ["human", "- dedpo", [{"vote": ["human", "clip"]}]], [{}, [[[[[[[[1]]]]]]]], [10**30], "x" * 30_000]),
        (TrainSettings, [{"flip": 0.5, "timestep_range": [0, 499]}], [{"a": math.inf}, {"a": ["\0"]}, {"\0": 1}, []]),
        (Grid, [{"beta": [250, {"times": 2}]}], [{"beta": 250}, {"beta": [math.nan]}, {"beta": [0] * 1001}]),
    ],
)
def test_what_is_within_passes_and_what_is_not_is_refused(kind: Any, good: list[Any], bad: list[Any]) -> None:
    adapter = TypeAdapter(kind)
    for value in good:
        assert adapter.validate_python(value) == value
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_errors_repeat_little_of_what_was_given() -> None:
    deep: Any = ["x" * 1000] * 1000
    for _ in range(30):
        deep = [deep] * 9  # as aliases in YAML: 9 ** 30 lists
    for value in (deep, "y" * 10**6, 10**5000, {"k" * 9999: 1}, [10**400]):
        assert len(excerpt(value)) < 400
    with pytest.raises(ValueError, match="no finite number of 64 bits") as said:
        bounded({"a": [10**400]})
    assert len(str(said.value)) < 200
