"""The one rule by which stored bytes become pixels, for ingest, scoring and encoding alike.

Every mode becomes RGB: alpha is dropped, not composited, as PIL's convert does; CMYK, palette and grayscale are
converted; 16-bit is scaled to 8-bit, not clipped. EXIF orientation is applied: people judged the upright image.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP")


def decode(content: bytes) -> Image.Image:
    """JPEG, PNG or WebP -> upright RGB.

    Raises:
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: the bytes are not a readable image.
    """
    with Image.open(BytesIO(content), formats=FORMATS) as image:
        return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL mode -> RGB; returns a loaded copy or the RGB image itself."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        high = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(high.clip(0, 255).astype(np.uint8))
    return image.convert("RGB")
