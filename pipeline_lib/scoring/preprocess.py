"""Image preparation, exactly as each reward model's original does it. VERSION changes when any result changes.

Two recipes exist. CLIP-like models (CLIP, PickScore, Aesthetic, ImageReward) resize with PIL's bicubic filter and crop
the centre; HPSv2 resizes the float tensor, keeps the whole image and pads with black. An image that is square and of
the right size already is only scaled and normalised, by either.

All start from `images.to_rgb`. The originals disagree on other modes (HPSv2 crashes on RGBA; some resize before
converting, which turns palette images into nearest-neighbour ones), so here every mode becomes RGB first.

torch is imported where it computes: HPSv2's resize. Processes that only crop start without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline_lib.scoring.resample import resize_crop

VERSION = 2
"""Of the recipes below, resample.py and images.py together."""

# Arithmetic is NumPy's: it stays on the calling thread, and the engine prepares images on several.
Pixels = NDArray[np.float32]
Rounding = Literal["even", "down"]
Triple = tuple[float, float, float]
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
OVERSHOOT = 0.4454
"""Of the bicubic filter on floats, in both axes at once; PIL's cuts it off at 0 and 255. 2 * 1.1875 * 0.1875."""


class Preprocess(Protocol):
    """Turns an RGB image of any size into pixels (3, size, size).

    Every value lies between (0 - mean) / std and (1 - mean) / std of its channel; only HPSv2's resize overshoots, by
    at most OVERSHOOT / std.
    """

    @property
    def name(self) -> str:
        """Recipe and version, as in the metadata of a score dataset."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the pixels of every image: (3, size, size)."""
        ...

    def key(self, width: int, height: int) -> tuple[object, ...]:
        """Recipes with equal keys for an image's size give it equal pixels."""
        ...

    def pixels(self, image: Image.Image) -> Pixels:
        """float32 (3, size, size), contiguous."""
        ...


@dataclass(frozen=True)
class CentreCrop(Preprocess):
    """Shorter side to `size` (PIL bicubic), centre crop, [0, 1], normalise.

    Attributes:
        rounding: how half a pixel of crop offset is rounded. torchvision (CLIP, Aesthetic, ImageReward) rounds half to
            even, transformers' CLIP image processor (PickScore) rounds down.
    """

    size: int
    rounding: Rounding
    mean: Triple = CLIP_MEAN
    std: Triple = CLIP_STD

    @property
    def name(self) -> str:
        return centre_crop_name(self.rounding)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    def key(self, width: int, height: int) -> tuple[object, ...]:
        """Resized size and crop offset for an image of this size, and the statistics."""
        return (*self.geometry(width, height), self.size, self.mean, self.std)

    def pixels(self, image: Image.Image) -> Pixels:
        resized, (left, top) = self.geometry(*image.size)
        box = (left, top, left + self.size, top + self.size)
        return _normalise(_unit(resize_crop(image, resized, box)), self.mean, self.std)

    def geometry(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """(width, height) after resizing, and (left, top) of the crop in it."""
        short = min(width, height)
        resized = (
            self.size if width == short else int(self.size * width / short),
            self.size if height == short else int(self.size * height / short),
        )
        left, top = (self._offset(side - self.size) for side in resized)
        return resized, (left, top)

    def _offset(self, excess: int) -> int:
        return round(excess / 2) if self.rounding == "even" else excess // 2


@dataclass(frozen=True)
class Letterbox(Preprocess):
    """HPSv2: longer side to `size` (bicubic on the float tensor), black padding around, normalise.

    Attributes:
        antialias: the original calls torchvision's resize on a tensor without naming it. That meant no antialiasing up
            to torchvision 0.16, with which HPSv2 was trained and its figures published, and antialiasing from 0.17 on,
            with which nobody reproduces them (tgxs002/HPSv2 issue 43).
    """

    size: int
    antialias: bool
    mean: Triple = CLIP_MEAN
    std: Triple = CLIP_STD

    @property
    def name(self) -> str:
        return letterbox_name(self.antialias)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    def key(self, width: int, height: int) -> tuple[object, ...]:
        """An image that is square and of the right size already is untouched, as by CentreCrop."""
        if width == height == self.size:
            return CentreCrop(self.size, "even", self.mean, self.std).key(width, height)
        return (self,)

    def pixels(self, image: Image.Image) -> Pixels:
        pixels = _unit(image)
        longer = max(image.size)
        if longer != self.size:
            # The original rounds very flat images to zero rows and fails; they keep one.
            target = tuple(max(1, round(side * (self.size / longer))) for side in (image.height, image.width))
            pixels = _resize_tensor(pixels, target, self.antialias)
        rows, columns = self.size - pixels.shape[1], self.size - pixels.shape[2]
        around = [(0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)]
        return _normalise(np.pad(pixels, around), self.mean, self.std)


def centre_crop_name(rounding: Rounding) -> str:
    """`CentreCrop.name`, before the size is known."""
    return f"centre-crop-{rounding}/{VERSION}"


def letterbox_name(antialias: bool) -> str:
    """`Letterbox.name`, before the size is known."""
    return f"letterbox-{'antialias' if antialias else 'plain'}/{VERSION}"


def _resize_tensor(pixels: Pixels, target: tuple[int, ...], antialias: bool) -> Pixels:
    """torch's own code: its float32 coordinates and fused multiplications move a noisy image by up to 1e-4."""
    import torch
    from torch.nn import functional

    whole = torch.from_numpy(pixels)[None]
    resized = functional.interpolate(whole, target, mode="bicubic", align_corners=False, antialias=antialias)
    return np.asarray(resized[0].numpy(), np.float32)


def _unit(image: Image.Image) -> Pixels:
    """RGB image -> (3, height, width) in [0, 1], contiguous."""
    pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
    pixels /= np.float32(255)
    return pixels


def _normalise(pixels: Pixels, mean: Triple, std: Triple) -> Pixels:
    centre, spread = (np.asarray(values, np.float32).reshape(3, 1, 1) for values in (mean, std))
    return (pixels - centre) / spread
