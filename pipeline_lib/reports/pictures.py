"""Pictures inside a page, bounded in size."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from pipeline_lib.images import FORMATS, decode

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
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: the bytes are not a readable image.
    """
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        size, kind = image.size, str(image.format).lower()
    pixelated = max(size) < PIXELATED_BELOW
    if max(size) > longest or len(content) > BYTES:
        small = decode(content)
        small.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=QUALITY)
        content, size, kind = buffer.getvalue(), small.size, "jpeg"
    return Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", *size, pixelated)
