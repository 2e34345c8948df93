"""`python -m pipeline_lib.scoring.decode_worker`: encoded images in on stdin, pixels out, until stdin closes.

Started by `decode`. torch is imported only for the operators of the recipes that use it.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_lib.core import images
from pipeline_lib.core.errors import UnreadableImageError
from pipeline_lib.scoring.decode_answer import write_answer
from pipeline_lib.scoring.decode_request import read_request

if TYPE_CHECKING:
    from PIL import Image

    from pipeline_lib.scoring.preprocess import Pixels, Preprocess


def prepare(content: bytes, recipes: Sequence[Preprocess]) -> list[Pixels] | str:
    """Encoded image -> its pixels by each recipe, or what is wrong with it."""
    try:
        image = images.decode(content)
    except UnreadableImageError as error:
        return error.problem
    return pixels_of(image, recipes)


def pixels_of(image: Image.Image, recipes: Sequence[Preprocess]) -> list[Pixels]:
    """The pixels of an RGB image by each recipe; recipes that agree on this image get the same array."""
    made: dict[tuple[object, ...], Pixels] = {}
    for recipe in recipes:
        key = recipe.key(*image.size)
        if key not in made:
            made[key] = recipe.pixels(image)
    return [made[recipe.key(*image.size)] for recipe in recipes]


def main() -> None:
    """Answer requests of `decode.DecodeWorkers` in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides what it means
    stream = socket.socket(fileno=os.dup(0)).makefile("rwb")
    os.dup2(2, 1)  # whatever prints must not print into the answers
    while True:
        try:
            content, recipes = read_request(stream)
        except EOFError:
            return
        write_answer(stream, prepare(content, recipes))


if __name__ == "__main__":
    main()
