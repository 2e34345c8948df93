"""Answers of decode workers: what is written is read; anything else is refused, however it looks."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest

from pipeline_lib.scoring.decode_answer import LINE_BYTES, MalformedAnswerError, read_answer, write_answer
from pipeline_lib.scoring.preprocess import CentreCrop, Preprocess

RECIPES: list[Preprocess] = [CentreCrop(4, "even"), CentreCrop(4, "down"), CentreCrop(2, "even")]


def pixels(size: int) -> np.ndarray:
    return np.arange(3 * size * size, dtype=np.float32).reshape(3, size, size)


def test_pixels_and_problems_come_back_as_they_were_written() -> None:
    stream = BytesIO()
    four, two = pixels(4), pixels(2)
    write_answer(stream, [four, four, two])
    write_answer(stream, 'damaged: "ü\n\x00"')
    write_answer(stream, [])
    write_answer(stream, "\U0001f600" * LINE_BYTES)
    stream.seek(0)
    answer = read_answer(stream, RECIPES)
    assert isinstance(answer, list)
    first, second, third = answer
    assert first is second
    assert np.array_equal(first, four) and np.array_equal(third, two)
    assert read_answer(stream, RECIPES) == 'damaged: "ü\n\x00"'
    assert read_answer(stream, []) == []
    long = read_answer(stream, [])
    assert isinstance(long, str) and len(long) > 1000 and set(long) == {"\U0001f600"}, "cut, but whole characters"
    assert not stream.read()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "[" * (LINE_BYTES - 1),
        "9" * (LINE_BYTES - 1),
        "[0, 1, 2]",
        '{"arrays": [0, 1]}',
        '{"arrays": [0, 1, 2, 3]}',
        '{"arrays": [1, 0, 2]}',
        '{"arrays": [0, -1, 1]}',
        '{"arrays": [0, 0, 0]}',  # two shapes
        '{"arrays": [0, true, 2]}',
        '{"arrays": [0, 1.0, 2]}',
        '{"arrays": {"0": 0}}',
        '{"problem": null}',
        "{}",
        '{"problem": "' + " " * LINE_BYTES + '"}',
    ],
)
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(MalformedAnswerError):
        read_answer(BytesIO(line.encode() + b"\n" + bytes(10_000)), RECIPES)


def test_an_answer_that_ends_early() -> None:
    stream = BytesIO()
    write_answer(stream, [pixels(4), pixels(4), pixels(2)])
    whole = stream.getvalue()
    for length in (0, len(whole) - 1, len(whole) // 2):
        with pytest.raises(EOFError):
            read_answer(BytesIO(whole[:length]), RECIPES)
