"""Pictures inside a page, bounded in size."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from pipeline_lib.core.errors import UnreadableImageError
from pipeline_lib.core.images import decode, open_image

THUMBNAIL = 320
"""Longest side of a picture in the page, in pixels."""
BYTES = 96 << 10
"""Pictures of more bytes are encoded again."""
PIXELATED_BELOW = 128
QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """A picture ready for `src`, its size in pixels, and whether it is so small that enlarging must not smooth it."""

    uri: str
    width: int
    height: int
    pixelated: bool


def picture(content: bytes, longest: int = THUMBNAIL) -> Picture:
    """JPEG, PNG or WebP bytes as a data URI: as they are when small, else scaled down to `longest` and JPEG.

    Raises:
        UnreadableImageError: the bytes are not an image, or one that has to be scaled down cannot be decoded.
    """
    try:
        with open_image(content) as image:
            size, kind = image.size, str(image.format).lower()
    except Exception as error:  # Pillow raises nearly any type on damaged input
        raise UnreadableImageError(
            f"The first bytes are no header of an image: {error}.", "Give a whole JPEG, PNG or WebP."
        ) from error
    pixelated = max(size) < PIXELATED_BELOW
    if max(size) > longest or len(content) > BYTES:
        small = decode(content)
        small.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=QUALITY)
        content, size, kind = buffer.getvalue(), small.size, "jpeg"
    return Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", *size, pixelated)
