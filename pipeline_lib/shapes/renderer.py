"""Drawing scenes as 32x32 RGB images, ideally or with a set of faults.

Everything works on batches: one array entry per image. Images are float32 RGB in 0..1, shape (n, 32, 32, 3).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline_lib.shapes.grammar import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Scene

SIDE = 32
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_YS, _XS = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5, indexing="ij")
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Layout:
    """Scenes as arrays: shape index (n,), radius (n,), centre (n, 2) as x, y in pixels, colours (n, 3)."""

    shape: Ints
    radius: Floats
    centre: Floats
    colour: Floats
    background: Floats

    def __len__(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class Faults:
    """What goes wrong after drawing, one entry per image; the defaults of :func:`no_faults` change nothing."""

    saturation: Floats  # 1 keeps the colours, 0 gives grey
    blur: Floats  # sigma in pixels
    noise: Floats  # standard deviation of white noise
    block: Ints  # side of the mosaic blocks in pixels: 1, 2 or 4


def layout(scenes: Sequence[Scene]) -> Layout:
    """The ideal geometry and colours of scenes."""
    offsets = np.array([PLACES[scene.place] for scene in scenes], dtype=np.float32).reshape(-1, 2)
    return Layout(
        shape=np.array([SHAPES.index(scene.shape) for scene in scenes], dtype=np.int64),
        radius=np.array([SIZES[scene.size] for scene in scenes], dtype=np.float32),
        centre=offsets + SIDE / 2,
        colour=np.array([COLOURS[scene.colour] for scene in scenes], dtype=np.float32).reshape(-1, 3),
        background=np.array([BACKGROUNDS[scene.background] for scene in scenes], dtype=np.float32).reshape(-1, 3),
    )


def coverage(shape: Ints, radius: Floats, centre: Floats) -> Floats:
    """How much of each pixel a shape covers, 0..1, shape (n, 32, 32); antialiased from signed distances."""
    dx = _XS[None] - centre[:, 0, None, None]
    dy = _YS[None] - centre[:, 1, None, None]
    ax, ay, r = np.abs(dx), np.abs(dy), radius[:, None, None]
    distance = np.hypot(dx, dy)
    thin, long = 0.36 * r, 1.1 * r
    by_shape = {
        "circle": distance - r,
        "square": np.maximum(ax, ay) - 0.886 * r,
        "triangle": np.maximum(dy, np.sqrt(0.75) * ax - dy / 2) - 0.62 * r,
        "cross": np.minimum(np.maximum(ax - thin, ay - long), np.maximum(ax - long, ay - thin)),
        "ring": np.abs(distance - 0.75 * r) - 0.3 * r,
    }
    signed = np.choose(shape[:, None, None], [by_shape[name] for name in SHAPES])
    return np.clip(0.5 - signed, 0.0, 1.0).astype(np.float32)


def no_faults(count: int) -> Faults:
    """Faults that change nothing."""
    return Faults(
        saturation=np.ones(count, dtype=np.float32),
        blur=np.zeros(count, dtype=np.float32),
        noise=np.zeros(count, dtype=np.float32),
        block=np.ones(count, dtype=np.int64),
    )


def render(scenes: Layout, faults: Faults | None = None, seed: int = 0) -> Floats:
    """Images (n, 32, 32, 3) of scenes, with faults when given; `seed` draws the noise."""
    cover = coverage(scenes.shape, scenes.radius, scenes.centre)[..., None]
    images = scenes.background[:, None, None] * (1 - cover) + scenes.colour[:, None, None] * cover
    if faults is None:
        return images.astype(np.float32)
    images = _mosaic(_blurred(images, faults.blur), faults.block)
    images = desaturated(images, faults.saturation[:, None, None])
    noise = np.random.default_rng(seed).standard_normal(images.shape, dtype=np.float32)
    return np.clip(images + noise * faults.noise[:, None, None, None], 0.0, 1.0).astype(np.float32)


def ideal(scenes: Sequence[Scene]) -> Floats:
    """What the captions of these scenes ask for, drawn without any fault."""
    return render(layout(scenes))


def desaturated(colours: Floats, saturation: Floats) -> Floats:
    """Colours (..., 3) moved towards grey of the same luma; saturation (...) of 1 keeps them."""
    luma = (colours @ _LUMA)[..., None]
    return (luma + saturation[..., None] * (colours - luma)).astype(np.float32)


def _blurred(images: Floats, sigma: Floats) -> Floats:
    steps = np.arange(SIDE)[:, None] - np.arange(SIDE)[None]
    kernels = np.exp(-(steps[None] ** 2) / (2 * np.maximum(sigma, 0.05)[:, None, None] ** 2))
    kernels = (kernels / kernels.sum(axis=2, keepdims=True)).astype(np.float32)
    rows = np.einsum("nij,njxc->nixc", kernels, images, optimize=True)
    return np.einsum("nij,nyjc->nyic", kernels, rows, optimize=True).astype(np.float32)


def _mosaic(images: Floats, block: Ints) -> Floats:
    out = images.copy()
    for side in (2, 4):
        chosen = block == side
        if chosen.any():
            cells = images[chosen].reshape(-1, SIDE // side, side, SIDE // side, side, 3).mean(axis=(2, 4))
            out[chosen] = cells.repeat(side, axis=1).repeat(side, axis=2)
    return out


def to_uint8(images: Floats) -> NDArray[np.uint8]:
    """Images in 0..1 as bytes, rounded to nearest."""
    return np.round(np.clip(images, 0.0, 1.0) * 255).astype(np.uint8)


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """One image (32, 32, 3) as JPEG: quality 95, no colour subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def decode(data: bytes) -> Floats:
    """One encoded image as float32 RGB (32, 32, 3) in 0..1."""
    with Image.open(io.BytesIO(data)) as image:
        return (np.asarray(image.convert("RGB"), dtype=np.float32) / 255).astype(np.float32)
