"""A part of an image resized with PIL's bicubic filter, whatever PIL's version and however large the whole would be.

PIL resizes one axis after the other and rounds to 8 bits between them, so the order shows. Up to Pillow 12, with which
the reward models were trained and published, columns came first; Pillow 13 takes rows first for images more than about
2.2 times as high as wide, which moves a fifth of their pixels by up to a dozen levels. Here columns always come first.

The part is cut out after each axis. A 1 x 4096 image whose shorter side is to have 224 pixels would be 224 x 917504
(0.8 GB) before the crop; along such an axis only the pixels that stay are computed, with PIL's arithmetic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGEST = 4096
"""Longest side that PIL resizes to in full, in pixels."""
SUPPORT = 2.0
FIXED_POINT = 22
"""PIL's filter weights are integers: multiples of 2**-22."""


def resize_crop(image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """`image.resize(size, BICUBIC).crop(box)` of an RGB image, columns resized first.

    Args:
        size: width and height of the whole result, in pixels.
        box: left, top, right and bottom of the part in it, inside the whole.
    """
    (width, height), (left, top, right, bottom) = size, box
    if width > LARGEST:
        image = Image.fromarray(resize_rows(np.asarray(image).swapaxes(0, 1), width, left, right).swapaxes(0, 1))
    else:
        image = _resize(image, (width, image.height)).crop((left, 0, right, image.height))
    if height > LARGEST:
        return Image.fromarray(resize_rows(np.asarray(image), height, top, bottom))
    return _resize(image, (image.width, height)).crop((0, top, image.width, bottom))


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def resize_rows(pixels: NDArray[np.uint8], height: int, top: int, bottom: int) -> NDArray[np.uint8]:
    """Rows `top` to `bottom` of an image (rows, columns, 3) resized to `height` rows, to the bit as PIL does it."""
    if len(pixels) == height:
        return pixels[top:bottom]
    rows, weights = _taps(len(pixels), height, top, bottom)
    total = np.full((bottom - top, *pixels.shape[1:]), 1 << (FIXED_POINT - 1), np.int64)  # a half: the sum is rounded
    for row, weight in zip(rows.T, weights.T, strict=True):
        total += pixels[row] * weight[:, None, None]
    return (total >> FIXED_POINT).clip(0, 255).astype(np.uint8)


def _taps(size: int, resized: int, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of `size` pixels each of the resized pixels `first` to `last` reads, and their fixed-point weights."""
    scale = size / resized
    wide = max(scale, 1.0)
    centre = (np.arange(first, last) + 0.5) * scale
    start = (centre - SUPPORT * wide + 0.5).astype(np.int64).clip(min=0)
    end = (centre + SUPPORT * wide + 0.5).astype(np.int64).clip(max=size)
    read = start[:, None] + np.arange((end - start).max())
    weights = np.where(read < end[:, None], _cubic((read - centre[:, None] + 0.5) / wide), 0.0)
    weights /= weights.cumsum(axis=1)[:, -1:]  # cumsum adds in PIL's order
    fixed = np.trunc(weights * (1 << FIXED_POINT) + np.copysign(0.5, weights)).astype(np.int64)
    return read.clip(max=size - 1), fixed


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' filter with a = -1/2."""
    x = np.abs(distance)
    near, far = (1.5 * x - 2.5) * x * x + 1.0, (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
