"""What a decode worker answers: one line of JSON, then float32 arrays in this machine's byte order.

A worker parses images from anywhere, so its answer is read as data, never unpickled: nothing in it names code, and the
sizes of what is read follow from the recipes. The line is `{"problem": text}`, or `{"arrays": [0, 0, 1]}` with the
number of each recipe's array, counted in order of first use; the arrays follow in the shapes that the recipes state.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BufferedIOBase
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipeline_lib.scoring.preprocess import Pixels, Preprocess

LINE_BYTES = 65_536
PROBLEM_CHARACTERS = 4_096
"""JSON takes up to twelve bytes for one. `images.decode` needs far fewer."""


class MalformedAnswerError(Exception):
    """The answer is none: its worker cannot be trusted with the next request either."""


def write_answer(stream: BufferedIOBase, answer: Sequence[Pixels] | str) -> None:
    """Write pixels, or what is wrong with the image, and flush; an array that stands there twice is sent once."""
    distinct: dict[int, Pixels] = {}
    if isinstance(answer, str):
        header: dict[str, object] = {"problem": answer[:PROBLEM_CHARACTERS]}
    else:
        distinct = {id(array): array for array in answer}
        header = {"arrays": [list(distinct).index(id(array)) for array in answer]}
    stream.write(json.dumps(header).encode() + b"\n")
    for array in distinct.values():
        stream.write(np.ascontiguousarray(array, np.float32).data)
    stream.flush()


def read_answer(stream: BufferedIOBase, recipes: Sequence[Preprocess]) -> list[Pixels] | str:
    """Read what `write_answer` wrote for these recipes; recipes that share an array get the same object.

    Raises:
        EOFError: the stream ended before the answer did.
        MalformedAnswerError: it is no answer to these recipes.
    """
    line = stream.readline(LINE_BYTES)
    if not line:
        raise EOFError("its answer ends early")
    try:
        header = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswerError(f"{line[:80]!r} is not JSON") from error
    match header:
        case {"problem": str(problem)}:
            return problem
        case {"arrays": list(numbers)} if all(type(number) is int for number in numbers):
            arrays = [_read_array(stream, shape) for shape in _shapes(numbers, [recipe.shape for recipe in recipes])]
            return [arrays[number] for number in numbers]
    raise MalformedAnswerError(f"{line[:80]!r} names neither arrays nor a problem")


def _shapes(numbers: Sequence[int], wanted: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Of the distinct arrays, so that every recipe gets the shape it wants."""
    shapes: list[tuple[int, ...]] = []
    if len(numbers) == len(wanted):
        for number, shape in zip(numbers, wanted, strict=True):
            if number == len(shapes):
                shapes.append(shape)
            elif not 0 <= number < len(shapes) or shapes[number] != shape:
                break
        else:
            return shapes
    raise MalformedAnswerError(f"arrays {str(numbers)[:80]} for recipes of shapes {wanted}")


def _read_array(stream: BufferedIOBase, shape: tuple[int, ...]) -> Pixels:
    array = np.empty(shape, np.float32)
    if stream.readinto(array.data.cast("B")) != array.nbytes:
        raise EOFError("its answer ends early")
    return array
