"""The known truth: how good an image is for a caption, measured on the pixels.

Seven attributes, each 0..1 (1 = as in the ideal rendering), weighted into one utility. The measures segment the
image by its own background colour, so they work on any 32x32 image, renderings and generated ones alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline_lib.shapes.grammar import parse
from pipeline_lib.shapes.renderer import SIDE, Floats, coverage, desaturated, layout

WEIGHTS: dict[str, float] = {
    "colour": 1.3,
    "shape": 1.3,
    "background": 0.8,
    "place": 0.6,
    "sharpness": 0.9,
    "vividness": 1.1,
    "cleanness": 0.9,
}
"""Attribute -> weight in the utility of the majority. The greatest utility is their sum, 6.9."""

ATTRIBUTES: tuple[str, ...] = tuple(WEIGHTS)

_EDGE = 2
_BORDER = np.ones((SIDE, SIDE), dtype=bool)
_BORDER[_EDGE:-_EDGE, _EDGE:-_EDGE] = False
_YS, _XS = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5, indexing="ij")
_CHUNK = 512


def attributes(images: ArrayLike, captions: Sequence[str]) -> Floats:
    """The seven attributes of each (image, caption), shape (n, 7), columns in the order of ATTRIBUTES, each in 0..1.

    `images` is (n, 32, 32, 3): uint8, or floating point in 0..1.
    """
    pixels = np.asarray(images)
    if pixels.ndim != 4 or pixels.shape[1:] != (SIDE, SIDE, 3) or len(pixels) != len(captions):
        raise ValueError(
            f"need one {SIDE}x{SIDE} RGB image per caption, got images {pixels.shape} and {len(captions)} captions"
        )
    scale = 255.0 if pixels.dtype == np.uint8 else 1.0
    parts = [
        _measure((pixels[start : start + _CHUNK] / scale).astype(np.float32), captions[start : start + _CHUNK])
        for start in range(0, len(captions), _CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, len(ATTRIBUTES)), dtype=np.float32)


def utility(parts: Floats) -> Floats:
    """The majority's utility (n,) of attributes (n, 7): their weighted sum, 0..6.9."""
    return (parts @ np.array(list(WEIGHTS.values()), dtype=np.float32)).astype(np.float32)


def true_utility(images: ArrayLike, captions: Sequence[str]) -> Floats:
    """The true utility (n,) of each (image, caption), 0..6.9; see :func:`attributes` for the image format."""
    return utility(attributes(images, captions))


def _measure(images: Floats, captions: Sequence[str]) -> Floats:
    wanted = layout([parse(caption) for caption in captions])
    background = np.median(images[:, _BORDER], axis=1)
    distance = np.linalg.norm(images - background[:, None, None], axis=-1)
    contrast = np.maximum(np.sort(distance.reshape(len(images), -1), axis=1)[:, -32:].mean(axis=1), 0.2)
    level = distance / contrast[:, None, None]
    # The lower quarter of the contrast range is noise and halo, not shape.
    figure = np.clip((level - 0.25) / 0.5, 0.0, 1.0)
    mass = figure.sum(axis=(1, 2)) + 1e-6
    centre = np.stack([(figure * _XS).sum(axis=(1, 2)) / mass, (figure * _YS).sum(axis=(1, 2)) / mass], axis=1)
    model = coverage(wanted.shape, wanted.radius, centre.astype(np.float32))

    overlap = np.minimum(figure, model).sum(axis=(1, 2)) / (np.maximum(figure, model).sum(axis=(1, 2)) + 1e-6)
    shift = np.linalg.norm(centre - wanted.centre, axis=1)

    core = figure**2 * (model + 0.01)
    foreground = (images * core[..., None]).sum(axis=(1, 2)) / (core.sum(axis=(1, 2)) + 1e-6)[:, None]
    vividness = np.clip(_chroma(foreground) / _chroma(wanted.colour), 0.0, 1.0)
    # A muted red is still red: colours are compared at the saturation the image has.
    muted = np.clip(vividness, 0.25, 1.0)
    colour_error = np.linalg.norm(foreground - desaturated(wanted.colour, muted), axis=1)
    background_error = np.linalg.norm(background - desaturated(wanted.background, muted), axis=1)

    flat = images - np.where(figure[..., None] > 0.5, foreground[:, None, None], background[:, None, None])
    inside = ((figure > 0.95) | (figure < 0.05))[..., None]
    roughness = np.sqrt((flat**2 * inside).sum(axis=(1, 2, 3)) / (3 * inside.sum(axis=(1, 2, 3)) + 1e-6))
    sharpness = _steepness(np.clip(level, 0.0, 1.0)) / (_steepness(model) + 1e-6)

    columns = {
        "colour": np.exp(-((colour_error / 0.25) ** 2)),
        "shape": np.clip((overlap - 0.55) / 0.4, 0.0, 1.0),
        "background": np.exp(-((background_error / 0.18) ** 2)),
        "place": np.exp(-((shift / 4.0) ** 2)),
        "sharpness": np.clip((sharpness - 0.3) / 0.6, 0.0, 1.0),
        "vividness": np.clip((vividness - 0.2) / 0.75, 0.0, 1.0),
        "cleanness": np.exp(-((roughness / 0.10) ** 2)),
    }
    return np.stack([columns[name] for name in ATTRIBUTES], axis=1).astype(np.float32)


def _chroma(colours: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.linalg.norm(colours - colours.mean(axis=1, keepdims=True), axis=1)


def _steepness(level: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean of the 32 steepest steps between neighbouring pixels, (n,)."""
    across = np.abs(np.diff(level, axis=2)).reshape(len(level), -1)
    down = np.abs(np.diff(level, axis=1)).reshape(len(level), -1)
    return np.sort(np.concatenate([across, down], axis=1), axis=1)[:, -32:].mean(axis=1)
