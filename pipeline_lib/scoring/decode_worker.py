"""`python -m pipeline_lib.scoring.decode_worker`: encoded images in on stdin, pixels out, until stdin closes.

Started by `decode`. torch is imported only for the operators of the recipes that use it.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_lib import images

if TYPE_CHECKING:
    from PIL import Image

    from pipeline_lib.scoring.preprocess import Pixels, Preprocess

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object, in messages; the quarantine must be the same in every run


def prepare(content: bytes, recipes: Sequence[Preprocess]) -> list[Pixels] | str:
    """Encoded image -> its pixels by each recipe, or what is wrong with it."""
    try:
        image = images.decode(content)
    except Exception as error:  # Pillow's decoders raise nearly any type on damaged input
        return _ADDRESS.sub("", f"{type(error).__name__}: {error}")
    return pixels_of(image, recipes)


def pixels_of(image: Image.Image, recipes: Sequence[Preprocess]) -> list[Pixels]:
    """The pixels of an RGB image by each recipe; recipes that agree on this image get the same array."""
    made: dict[tuple[object, ...], Pixels] = {}
    for recipe in recipes:
        key = recipe.key(*image.size)
        if key not in made:
            made[key] = recipe(image).numpy()
    return [made[recipe.key(*image.size)] for recipe in recipes]


def main() -> None:
    """Answer requests of `decode.DecodeWorkers` in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides what it means
    stream = socket.socket(fileno=os.dup(0)).makefile("rwb")
    os.dup2(2, 1)  # whatever prints must not print into the answers
    while True:
        try:
            content, recipes = pickle.load(stream)
        except EOFError:
            return
        pickle.dump(prepare(content, recipes), stream, protocol=5)
        stream.flush()


if __name__ == "__main__":
    main()
