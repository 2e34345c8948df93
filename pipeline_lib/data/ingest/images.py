"""Checks of one encoded image: bounded before it is decoded, then all of its data is decoded once."""

from __future__ import annotations

import hashlib
import re
import threading
from contextlib import nullcontext
from dataclasses import dataclass

from PIL import Image

from pipeline_lib.core.images import SIDEWAYS, open_image, turn_of
from pipeline_lib.data.ingest.reasons import Reason

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object, in messages; the quarantine must be the same in every run


LARGE_PIXELS = 4_000_000
_ONE_LARGE = threading.Lock()
"""Large images are decoded one at a time: `max_pixels` bounds the memory of a process, not of each of its threads."""


@dataclass(frozen=True)
class Checked:
    """An image's size in pixels (upright), or why it is rejected."""

    width: int = 0
    height: int = 0
    reason: Reason | None = None
    detail: str = ""


def sha256(content: bytes) -> str:
    """Hex sha256 of encoded bytes."""
    return hashlib.sha256(content).hexdigest()


def check(content: bytes | None, max_pixels: int, max_bytes: int) -> Checked:
    """Decode all of an image's data with Pillow, unless its size in bytes or its header already disqualifies it.

    Of a JPEG every coefficient is decoded, which is where damage shows, but an eighth of the side is drawn: half the
    time, and a 64th of the memory.
    """
    if not content:
        return Checked(reason=Reason.IMAGE_MISSING)
    if len(content) > max_bytes:
        return Checked(reason=Reason.TOO_MANY_BYTES, detail=f"{len(content)} bytes, at most {max_bytes}")
    try:
        with open_image(content) as image:
            width, height = image.size
            if width * height > max_pixels:
                return Checked(
                    reason=Reason.TOO_MANY_PIXELS, detail=f"{width} x {height}, at most {max_pixels} pixels"
                )
            image.draft(None, (max(width // 8, 1), max(height // 8, 1)))
            with _ONE_LARGE if width * height > LARGE_PIXELS else nullcontext():
                if turn_of(image) in SIDEWAYS:
                    width, height = height, width
    except Image.DecompressionBombError as error:
        return Checked(reason=Reason.TOO_MANY_PIXELS, detail=str(error))
    except (
        Exception
    ) as error:  # Pillow's decoders raise nearly any type on damaged input; the row is rejected, not the run
        truncated = "truncated" in str(error).lower()
        reason = Reason.IMAGE_TRUNCATED if truncated else Reason.IMAGE_UNDECODABLE
        return Checked(reason=reason, detail=_ADDRESS.sub("", f"{type(error).__name__}: {error}"[:200]))
    return Checked(width, height)
