"""Embedded pictures: kept where small, bounded where not, upright."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pipeline_lib.core.errors import UnreadableImageError
from pipeline_lib.reports import picture


def encoded(width: int, height: int, kind: str = "PNG", orientation: int | None = None) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, exif=exif)
    return buffer.getvalue()


def content(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_small_pictures_are_kept_as_they_are(kind: str) -> None:
    given = encoded(32, 20, kind)
    shown = picture(given)
    assert shown.uri.startswith(f"data:image/{kind.lower()};base64,") and content(shown.uri) == given
    assert (shown.width, shown.height, shown.pixelated) == (32, 20, True)


def test_large_pictures_are_scaled_down_and_upright() -> None:
    shown = picture(encoded(1024, 512, "JPEG", orientation=6))
    with Image.open(io.BytesIO(content(shown.uri))) as image:
        assert image.size == (shown.width, shown.height) == (160, 320) and image.format == "JPEG"
    assert not shown.pixelated and len(shown.uri) < 150_000  # of noise, the worst case for JPEG


def test_pictures_of_many_bytes_are_encoded_again() -> None:
    given = encoded(300, 300)
    shown = picture(given)
    assert len(given) > 250_000 and len(shown.uri) < 150_000 and (shown.width, shown.height) == (300, 300)


def test_bytes_that_are_no_picture_raise() -> None:
    for content in (b"", b"GIF89a", encoded(1024, 512)[:5000]):
        with pytest.raises(UnreadableImageError):
            picture(content)
