"""A recipe that kills; worker processes import it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline_lib.scoring.preprocess import Pixels, Preprocess


@dataclass(frozen=True)
class Deadly(Preprocess):
    """Ends its process with exit code 7 as long as the file `fuse` is there, which it removes if `once`."""

    fuse: str
    once: bool

    @property
    def name(self) -> str:
        return "deadly"

    @property
    def shape(self) -> tuple[int, ...]:
        return (3,)

    def key(self, width: int, height: int) -> tuple[object, ...]:
        return (self,)

    def pixels(self, image: Image.Image) -> Pixels:
        if os.path.exists(self.fuse):
            if self.once:
                os.remove(self.fuse)
            os._exit(7)
        return np.full(3, image.width, np.float32)
