"""PNG files without the chunks that decide no pixel: text, colour profiles, times, chunks of other programs.

A damaged one, or one whose text unpacks to megabytes, would cost the image: Pillow reads them all.
"""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = frozenset((b"tRNS", b"acTL", b"fcTL", b"fdAT"))
"""Ancillary chunks that decide pixels: transparency, and which frame of an animation is the first."""
_EXIF = b"eXIf"


def essential(content: bytes) -> bytes:
    """The same image without chunks that decide nothing; EXIF stays where it is whole.

    What is not laid out as a PNG is left as it is, from there on: the decoder says what is wrong with it.
    """
    if not content.startswith(SIGNATURE):
        return content
    kept: list[bytes] = []
    start = at = len(SIGNATURE)
    while at + 12 <= len(content):
        length = struct.unpack_from(">I", content, at)[0]
        kind, end = content[at + 4 : at + 8], at + 12 + length
        if end > len(content) or kind == b"IEND" or not kind.isalpha():
            break
        checked = struct.unpack_from(">I", content, end - 4)[0]
        exif = kind == _EXIF and zlib.crc32(content[at + 4 : end - 4]) == checked
        if not (kind[:1].isupper() or kind in _KEPT or exif):
            kept.append(content[start:at])
            start = end
        at = end
    return b"".join([SIGNATURE, *kept, content[start:]]) if kept else content
