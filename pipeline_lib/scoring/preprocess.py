"""Image preparation, exactly as each reward model's original does it. VERSION changes when any result changes.

Two recipes exist. CLIP-like models (CLIP, PickScore, Aesthetic, ImageReward) resize with PIL's bicubic filter and crop
the centre; HPSv2 resizes the float tensor, keeps the whole image and pads with black.

All start from `images.to_rgb`. The originals disagree on other modes (HPSv2 crashes on RGBA; some resize before
converting, which turns palette images into nearest-neighbour ones), so here every mode becomes RGB first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

VERSION = 1

# Arithmetic is NumPy's: it stays on the calling thread, and the engine prepares images on several.
Pixels = NDArray[np.float32]
Triple = tuple[float, float, float]
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)


class Preprocess(Protocol):
    """Turns an RGB image into pixels; equal `key`s for the same image mean equal pixels."""

    def key(self, width: int, height: int) -> tuple[object, ...]: ...

    def __call__(self, image: Image.Image) -> Tensor: ...


@dataclass(frozen=True)
class CentreCrop:
    """Shorter side to `size` (PIL bicubic), centre crop, [0, 1], normalise.

    Attributes:
        rounding: how half a pixel of crop offset is rounded. torchvision (CLIP, Aesthetic, ImageReward) rounds half to
            even, transformers' CLIP image processor (PickScore) rounds down.
    """

    size: int
    rounding: Literal["even", "down"]
    mean: Triple = CLIP_MEAN
    std: Triple = CLIP_STD

    def key(self, width: int, height: int) -> tuple[object, ...]:
        """Resized size and crop offset for an image of this size, and the statistics."""
        return (*self._geometry(width, height), self.size, self.mean, self.std)

    def __call__(self, image: Image.Image) -> Tensor:
        resized, (left, top) = self._geometry(*image.size)
        if image.size != resized:
            image = image.resize(resized, Image.Resampling.BICUBIC)
        cropped = image.crop((left, top, left + self.size, top + self.size))
        return _normalise(_unit(cropped), self.mean, self.std)

    def _geometry(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
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
class Letterbox:
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

    def key(self, width: int, height: int) -> tuple[object, ...]:
        """An image that is square and of the right size already is untouched, as by CentreCrop."""
        if width == height == self.size:
            return CentreCrop(self.size, "even", self.mean, self.std).key(width, height)
        return (self,)

    def __call__(self, image: Image.Image) -> Tensor:
        pixels = _unit(image)
        height, width = pixels.shape[1:]
        scale = self.size / max(height, width)
        if scale != 1.0:
            # The original rounds very flat images to zero rows and fails; they keep one.
            target = (max(1, round(height * scale)), max(1, round(width * scale)))
            whole = torch.from_numpy(np.ascontiguousarray(pixels))[None]
            resized = functional.interpolate(
                whole, target, mode="bicubic", align_corners=False, antialias=self.antialias
            )
            pixels = resized[0].numpy()
        rows, columns = self.size - pixels.shape[1], self.size - pixels.shape[2]
        around = [(0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)]
        return _normalise(np.pad(pixels, around), self.mean, self.std)


def _unit(image: Image.Image) -> Pixels:
    """RGB image -> (3, height, width) in [0, 1]."""
    return np.asarray(image).transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def _normalise(pixels: Pixels, mean: Triple, std: Triple) -> Tensor:
    per_channel = [np.asarray(values, np.float32).reshape(3, 1, 1) for values in (mean, std)]
    return torch.from_numpy(np.ascontiguousarray((pixels - per_channel[0]) / per_channel[1]))
