"""Captions of the built-in world: what they say, all of them, and their split.

A caption names a size, a colour, a shape, a place and a background:
``a large red circle at the top of a dark blue background``, or, when the shape stands in the middle,
``a large red circle on a dark blue background``. Each caption stands for exactly one :class:`Scene`.
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

RGB = tuple[float, float, float]
Split = Literal["train", "validation", "test"]

SIZES: dict[str, float] = {"small": 5.0, "large": 8.0}
"""Size word -> radius in pixels of a 32 px image."""

COLOURS: dict[str, RGB] = {
    "red": (0.90, 0.12, 0.12),
    "yellow": (0.96, 0.86, 0.12),
    "green": (0.16, 0.74, 0.22),
    "blue": (0.18, 0.42, 0.96),
    "purple": (0.66, 0.18, 0.82),
    "cyan": (0.12, 0.82, 0.86),
}
"""Colour word -> RGB in 0..1."""

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "cross", "ring")

BACKGROUNDS: dict[str, RGB] = {
    "black": (0.06, 0.06, 0.06),
    "gray": (0.50, 0.50, 0.50),
    "dark blue": (0.07, 0.09, 0.36),
    "dark green": (0.05, 0.27, 0.11),
    "tan": (0.80, 0.67, 0.48),
}
"""Background word -> RGB in 0..1."""

PLACES: dict[str, tuple[float, float]] = {
    "": (0.0, 0.0),
    "left": (-6.0, 0.0),
    "right": (6.0, 0.0),
    "top": (0.0, -6.0),
    "bottom": (0.0, 6.0),
}
"""Place word -> offset (x, y) from the middle, in pixels of a 32 px image; no word means the middle."""

SPLIT_SIZES: dict[Split, int] = {"test": 256, "validation": 128}
"""Captions held out of everything that is trained; the rest is the train split."""

_PATTERN = re.compile(
    rf"a (?P<size>{'|'.join(SIZES)}) (?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)})"
    rf" (?:on|at the (?P<place>{'|'.join(place for place in PLACES if place)}) of)"
    rf" a (?P<background>{'|'.join(BACKGROUNDS)}) background"
)


@dataclass(frozen=True)
class Scene:
    """What a caption asks for, as keys of the tables above."""

    size: str
    colour: str
    shape: str
    place: str
    background: str

    @property
    def caption(self) -> str:
        where = f"at the {self.place} of" if self.place else "on"
        return f"a {self.size} {self.colour} {self.shape} {where} a {self.background} background"


def parse(caption: str) -> Scene:
    """The scene a caption stands for; outer and repeated white space and case do not matter.

    Raises ValueError when the text is not a caption of this grammar.
    """
    match = _PATTERN.fullmatch(" ".join(caption.lower().split()))
    if match is None:
        raise ValueError(
            f"not a caption of the shapes world: {caption!r}; "
            "write e.g. 'a large red circle at the top of a dark blue background'"
        )
    return Scene(**{key: value or "" for key, value in match.groupdict().items()})


@cache
def all_captions() -> tuple[str, ...]:
    """Every caption of the grammar (1,500), in a fixed order."""
    return tuple(Scene(*words).caption for words in itertools.product(SIZES, COLOURS, SHAPES, PLACES, BACKGROUNDS))


@cache
def split_captions(split: Split) -> tuple[str, ...]:
    """The captions of one split: 256 test, 128 validation, the others train; disjoint, shuffled, always the same."""
    captions = sorted(all_captions())
    random.Random(20240601).shuffle(captions)
    test, validation = SPLIT_SIZES["test"], SPLIT_SIZES["validation"]
    parts: dict[Split, list[str]] = {
        "test": captions[:test],
        "validation": captions[test : test + validation],
        "train": captions[test + validation :],
    }
    if split not in parts:
        raise ValueError(f"unknown split {split!r}; known splits: {', '.join(parts)}")
    return tuple(parts[split])
