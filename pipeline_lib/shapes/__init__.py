"""The built-in world: small pictures of shapes with a known truth, in the file formats of the real thing.

The assets (tiny weights laid out like the hub, preference pairs, prompts, truth) lie beside this file; they are made
by `python -m pipeline_lib.shapes build`. Importing this package loads neither torch nor the assets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pipeline_lib.shapes.grammar import Split
    from pipeline_lib.shapes.renderer import Floats


def assets_dir() -> Path:
    """The folder with everything that is shipped."""
    return Path(__file__).parent / "assets"


HUB = assets_dir() / "hub"
"""Weights as `<org>/<repo>/...`, the layout of the model hub."""


def pairs_dir() -> Path:
    """The folder with the preference pairs: Parquet shards in Pick-a-Pic v2's schema."""
    return assets_dir() / "pairs"


def held_out_dir() -> Path:
    """The folder with the pairs on test captions, in the same schema; for measuring, not for training."""
    return assets_dir() / "heldout"


def prompts(split: Split) -> list[str]:
    """The captions of a split: "train" (those of the pairs), "validation" or "test"; disjoint."""
    path = assets_dir() / "prompts" / f"{split}.txt"
    if not path.exists():
        raise ValueError(f"unknown split {split!r}; known splits: train, validation, test")
    return path.read_text(encoding="utf-8").splitlines()


def true_utility(images: ArrayLike, captions: Sequence[str]) -> Floats:
    """How good each image is for its caption, (n,) in 0..6.9; images (n, 32, 32, 3), uint8 or floats in 0..1."""
    from pipeline_lib.shapes.truth import true_utility as measure

    return measure(images, captions)
