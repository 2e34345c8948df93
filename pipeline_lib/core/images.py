"""The one rule by which stored bytes become pixels, for ingest, scoring and encoding alike.

Every image becomes upright 8-bit RGB, as people who judged it saw it, colour by colour:

| stored as | becomes |
|---|---|
| RGB | itself |
| RGBA, LA, and WebP or palette with transparency | alpha is dropped, not composited: the stored colours |
| palette, 1-bit, grayscale | the palette's colours; black and white; equal red, green, blue |
| CMYK JPEG | inverted ink values, as Adobe and everybody after it writes them, marked or not; no colour profile |
| 16 bits per channel | the high byte: scaled, not clipped |
| EXIF orientation | applied; the tag may lie in JPEG, PNG or WebP; damaged EXIF turns nothing |
| XMP orientation, PNG text, other metadata | not read, as in browsers, and may be damaged |
| colour profile (ICC), gamma | not applied, as in every reward model's own code |
| animation (WebP, APNG) | the first frame; an APNG's default image where that is not part of the animation |
| cut off or damaged, another format, too many bytes or pixels | UnreadableImageError |

The bounds are checked before memory is taken: the size in pixels stands in the header, which is all that is read
until then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image

from pipeline_lib.core import png
from pipeline_lib.core.errors import UnreadableImageError

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 256_000_000
MAX_PIXELS = 89_000_000
"""About 350 MB decoded; Pillow warns of larger ones, and refuses them from twice the size on."""

SIDEWAYS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)
"""Turns after which an image is as wide as the stored one is high."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    **dict(zip((5, 6, 7, 8), SIDEWAYS, strict=True)),
}
_REMEDY = "Store it as a whole JPEG, PNG or WebP within the bounds, or leave it out."
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object, in messages; tables must be the same in every run


def decode(content: bytes) -> Image.Image:
    """JPEG, PNG or WebP -> upright RGB, by the table above.

    Raises:
        UnreadableImageError: the bytes are not a whole image in one of FORMATS, or exceed MAX_BYTES or MAX_PIXELS.
    """
    if len(content) > MAX_BYTES:
        raise UnreadableImageError(f"{len(content)} bytes, at most {MAX_BYTES} are read.", _REMEDY)
    try:
        with open_image(content) as image:
            width, height = image.size
            if width * height <= MAX_PIXELS:
                turn = turn_of(image)
                rgb = to_rgb(image)
                return rgb if turn is None else rgb.transpose(turn)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly any type on damaged input
        what = _ADDRESS.sub("", f"{type(error).__name__}: {error}"[:200])
        raise UnreadableImageError(f"It cannot be decoded: {what}.", _REMEDY) from error
    raise UnreadableImageError(f"{width} x {height} pixels, at most {MAX_PIXELS} are decoded.", _REMEDY)


@contextmanager
def open_image(content: bytes) -> Iterator[Image.Image]:
    """An image whose header has been read, and nothing that decides no pixel; raises whatever Pillow raises."""
    with Image.open(BytesIO(png.essential(content)), formats=FORMATS) as image:
        yield image


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What makes an image upright, by its EXIF alone; loads it, as EXIF may follow the pixels.

    Pillow's own `exif_transpose` also obeys XMP and text, which no browser does.
    """
    image.load()
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        orientation = exif.get(ExifTags.Base.Orientation)
    except Exception:  # of damaged EXIF; nobody who judged the image saw it turned
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL mode -> RGB; returns a loaded copy, or the loaded RGB image itself."""
    image.load()
    if image.mode == "I" or image.mode.startswith("I;16"):
        high = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(high.clip(0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of the direct way
    return image if image.mode == "RGB" else image.convert("RGB")
