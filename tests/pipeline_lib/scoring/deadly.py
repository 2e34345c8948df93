"""A recipe that kills, in a module that worker processes can import without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Deadly:
    """Ends its process with exit code 7 as long as the file `fuse` is there, which it removes if `once`."""

    fuse: str
    once: bool

    def key(self, width: int, height: int) -> tuple[object, ...]:
        return (self,)

    def __call__(self, image: Image.Image) -> SimpleNamespace:
        if os.path.exists(self.fuse):
            if self.once:
                os.remove(self.fuse)
            os._exit(7)
        return SimpleNamespace(numpy=lambda: np.full(3, image.width))
