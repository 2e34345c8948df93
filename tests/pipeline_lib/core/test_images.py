"""Every row of the table of images.py, through encoded bytes."""

from __future__ import annotations

import struct
import warnings
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline_lib.core import images
from pipeline_lib.core.errors import UnreadableImageError
from pipeline_lib.core.images import decode, to_rgb
from pipeline_lib.core.png import essential
from pipeline_lib.data.ingest.images import check

ORANGE = (200, 100, 50)


def encode(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def palette(transparency: int | bytes | None = None) -> bytes:
    """One orange pixel of a palette image, whose colour may be transparent in part or whole."""
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, *ORANGE])
    return encode(image) if transparency is None else encode(image, transparency=transparency)


def png(header: bytes, rows: bytes) -> bytes:
    """A PNG of one IDAT chunk; the header's width, height, depth, colour type, and three zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_png(colour_type: int, *channels: int) -> bytes:
    """Two by two pixels of 16-bit channels."""
    pixel = struct.pack(f">{len(channels)}H", *channels)
    return png(struct.pack(">IIBBBBB", 2, 2, 16, colour_type, 0, 0, 0), (b"\0" + pixel * 2) * 2)


def cmyk(marked: bool) -> bytes:
    """A JPEG of pure red ink values, with or without the Adobe marker (APP14) that says they are inverted."""
    content = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    start = content.index(b"\xff\xee")
    length = struct.unpack(">H", content[start + 2 : start + 4])[0]
    return content if marked else content[:start] + content[start + 2 + length :]


def animated(form: str, **options: Any) -> bytes:
    return encode(
        Image.new("RGB", (2, 2), ORANGE), form, save_all=True, append_images=[Image.new("RGB", (2, 2))], **options
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(encode(Image.new("RGB", (2, 2), ORANGE)), ORANGE, id="RGB"),
        pytest.param(encode(Image.new("RGBA", (2, 2), (*ORANGE, 0))), ORANGE, id="RGBA, transparent"),
        pytest.param(encode(Image.new("RGBA", (2, 2), (*ORANGE, 128))), ORANGE, id="RGBA, half transparent"),
        pytest.param(
            encode(Image.new("RGBA", (2, 2), (*ORANGE, 9)), "WEBP", lossless=True, exact=True), ORANGE, id="RGBA, WebP"
        ),
        pytest.param(encode(Image.new("LA", (2, 2), (77, 0))), (77, 77, 77), id="LA"),
        pytest.param(encode(Image.new("L", (2, 2), 77)), (77, 77, 77), id="grayscale"),
        pytest.param(
            encode(Image.new("L", (2, 2), 77), transparency=77), (77, 77, 77), id="grayscale, one transparent"
        ),
        pytest.param(encode(Image.new("L", (16, 16), 77), "JPEG"), (77, 77, 77), id="grayscale JPEG"),
        pytest.param(encode(Image.new("1", (2, 2), 1)), (255, 255, 255), id="1-bit"),
        pytest.param(palette(), ORANGE, id="palette"),
        pytest.param(palette(1), ORANGE, id="palette, one transparent"),
        pytest.param(palette(b"\x00\x40"), ORANGE, id="palette with alphas"),
        pytest.param(cmyk(marked=True), (255, 0, 0), id="CMYK, Adobe"),
        pytest.param(cmyk(marked=False), (255, 0, 0), id="CMYK, unmarked"),
        pytest.param(deep_png(0, 0x80FF), (128, 128, 128), id="16-bit grayscale"),
        pytest.param(deep_png(4, 0x80FF, 0x10FF), (128, 128, 128), id="16-bit LA"),
        pytest.param(deep_png(2, 0x80FF, 0x40FF, 0xFFFF), (128, 64, 255), id="16-bit RGB"),
        pytest.param(deep_png(6, 0x80FF, 0x40FF, 0xFFFF, 0), (128, 64, 255), id="16-bit RGBA"),
        pytest.param(animated("WEBP", lossless=True), ORANGE, id="animated WebP"),
        pytest.param(animated("PNG"), ORANGE, id="APNG"),
        pytest.param(animated("PNG", default_image=True), ORANGE, id="APNG with a default image"),
    ],
)
def test_every_kind_becomes_rgb(content: bytes, expected: tuple[int, int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = decode(content)
    assert image.mode == "RGB"
    assert image.getpixel((1, 1)) == expected


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "size", "blue"),
    [
        (1, (16, 32), (0, 0)),
        (3, (16, 32), (15, 31)),
        (6, (32, 16), (31, 0)),
        (8, (32, 16), (0, 15)),
        (2, (16, 32), (15, 0)),
    ],
)
def test_exif_orientation_is_applied(
    form: str, orientation: int, size: tuple[int, int], blue: tuple[int, int]
) -> None:
    """The stored image is 16 wide and 32 high, red, its upper left corner blue."""
    image = Image.new("RGB", (16, 32), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(encode(image, form, exif=exif, **({"quality": 100} if form != "PNG" else {})))
    assert upright.size == size
    red, _, colour = upright.getpixel(blue)  # type: ignore[misc]
    assert colour > 200 > 60 > red
    red, _, colour = upright.getpixel((size[0] - 1 - blue[0], size[1] - 1 - blue[1]))  # type: ignore[misc]
    assert red > 200 > 60 > colour


def test_modes_without_a_file_format() -> None:
    for image, expected in (
        (Image.new("I", (2, 2), 0xFFFF), (255, 255, 255)),
        (Image.new("I", (2, 2), 70_000), (255, 255, 255)),
        (Image.new("YCbCr", (2, 2), (128, 128, 128)), (128, 128, 128)),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0)),
    ):
        assert to_rgb(image).getpixel((1, 1)) == expected


def noise(form: str) -> bytes:
    rng = np.random.default_rng(0)
    return encode(Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)), form)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_truncated_images_are_refused(form: str) -> None:
    content = noise(form)
    decode(content)
    for size in (0, 1, 20, len(content) // 2, len(content) - 60):
        with pytest.raises(UnreadableImageError):
            decode(content[:size])


@pytest.mark.parametrize("content", [b"", b"not an image", encode(Image.new("RGB", (2, 2)), "GIF")])
def test_other_bytes_are_refused_in_the_same_words_every_time(content: bytes) -> None:
    problems = []
    for _ in range(2):
        with pytest.raises(UnreadableImageError, match="cannot be decoded") as error:
            decode(content)
        problems.append(error.value.problem)
    assert problems[0] == problems[1]
    assert "0x" not in problems[0]
    assert "JPEG, PNG or WebP" in error.value.remedy


@settings(max_examples=150, deadline=None)
@given(data=st.data(), form=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_damaged_bytes_decode_or_are_refused(data: st.DataObject, form: str) -> None:
    content = bytearray(noise(form))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert decode(bytes(content)).mode == "RGB"
        except UnreadableImageError as error:
            assert error.remedy


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_bomb_is_refused_before_memory_is_taken(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred bytes that would be 400 MB: only the header may be read."""
    if form == "PNG":  # 17 MB of zeros in two layers of deflate are not needed: no pixel is read
        content = png(struct.pack(">IIBBBBB", 20_000, 5_000, 8, 2, 0, 0, 0), b"")
    else:
        content = bytearray(encode(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
        bits = (10_000 - 1) | (10_000 - 1) << 14  # width and height of a VP8L header
        content[21:25] = struct.pack("<I", bits)
        content = bytes(content)

    def load(image: Image.Image) -> None:
        raise AssertionError("it was decoded")

    with Image.open(BytesIO(content)) as opened:
        assert opened.width * opened.height == 100_000_000
        monkeypatch.setattr(type(opened), "load", load)
    with pytest.raises(UnreadableImageError, match=f"at most {images.MAX_PIXELS}"):
        decode(content)


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    with pytest.raises(UnreadableImageError, match="at most 100"):
        decode(noise("PNG"))


def with_chunk(content: bytes, kind: bytes, data: bytes, checksum: int | None = None, at: int = 33) -> bytes:
    """A PNG with one more chunk, after its header unless said."""
    checked = zlib.crc32(kind + data) if checksum is None else checksum
    return content[:at] + struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checked) + content[at:]


SOUND = encode(Image.new("RGB", (6, 4), ORANGE))
XMP = '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="8"/>'
BOMB = b"c\0\0" + zlib.compress(b"node " * 500_000)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(with_chunk(SOUND, b"zTXt", BOMB), id="text that unpacks to megabytes"),
        pytest.param(with_chunk(SOUND, b"tEXt", b"a\0b", checksum=1), id="text with a bad checksum"),
        pytest.param(with_chunk(SOUND, b"zTXt", b"c\0\0not deflate"), id="text that is not deflated"),
        pytest.param(with_chunk(SOUND, b"iTXt", b"c\0\1\0\0\0" + BOMB[3:]), id="international text"),
        pytest.param(with_chunk(SOUND, b"zTXt", BOMB, at=len(SOUND) - 12), id="text after the pixels"),
        pytest.param(with_chunk(SOUND, b"iCCP", BOMB), id="a profile that unpacks to megabytes"),
        pytest.param(with_chunk(SOUND, b"caBX", b"x" * 99, checksum=1), id="another program's chunk"),
        pytest.param(with_chunk(SOUND, b"eXIf", b"II*\0\xff\xff\xff\xff", checksum=1), id="EXIF with a bad checksum"),
        pytest.param(with_chunk(SOUND, b"eXIf", b"not EXIF"), id="EXIF that is none"),
        pytest.param(
            encode(Image.new("RGB", (6, 4), ORANGE), "WEBP", lossless=True, exif=b"Exif\0\0nonsense"), id="in WebP"
        ),
        pytest.param(
            encode(Image.new("RGB", (6, 4), ORANGE), "WEBP", lossless=True, xmp=XMP.encode()), id="XMP, WebP"
        ),
        pytest.param(with_chunk(SOUND, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.encode()), id="XMP, PNG"),
        pytest.param(
            with_chunk(SOUND, b"tEXt", b"Raw profile type exif\0\nexif\n26\n" + b"4d4d002a" * 4), id="EXIF as text"
        ),
    ],
)
def test_metadata_costs_no_image_and_turns_none(content: bytes) -> None:
    image = decode(content)
    assert image.size == (6, 4) and image.getpixel((5, 3)) == ORANGE
    checked = check(content, 1000, 10**7)
    assert (checked.reason, checked.width, checked.height) == (None, 6, 4)


def test_a_jpeg_is_turned_by_exif_and_not_by_xmp() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    plain, turned = Image.new("RGB", (32, 16)), Image.new("RGB", (32, 16))
    turned.paste((255, 255, 255), (0, 0, 8, 8))
    assert decode(encode(plain, "JPEG", xmp=XMP.encode())).size == (32, 16)
    both = decode(encode(turned, "JPEG", xmp=XMP.encode(), exif=exif, quality=100))
    assert both.size == (32, 16) and both.getpixel((30, 14))[0] > 200  # type: ignore[index]


def test_what_decides_pixels_stays_in_a_png() -> None:
    for content in (
        SOUND,
        palette(1),
        palette(b"\x00\x40"),
        animated("PNG", default_image=True),
        deep_png(2, 1, 2, 3),
    ):
        assert essential(content) == content
        assert essential(with_chunk(content, b"tIME", bytes(7))) == content
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(with_chunk(encode(Image.new("RGB", (6, 4)), exif=exif), b"tEXt", b"a\0b")).size == (4, 6)


@pytest.mark.parametrize("end", [9, 20, 40, 45, 57])
def test_a_png_that_is_cut_is_left_as_it_is(end: int) -> None:
    assert essential(with_chunk(SOUND, b"tIME", bytes(7), at=len(SOUND) - 12)[:end]) == SOUND[:end]
    assert essential(b"\x89PNG but not really") == b"\x89PNG but not really"
    assert essential(SOUND[:33] + b"\0\0\0\4\0\0\0\0") == SOUND[:33] + b"\0\0\0\4\0\0\0\0"
