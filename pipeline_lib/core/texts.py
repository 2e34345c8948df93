"""Text that users bring, as bytes: in UTF-8 or UTF-16, with lines where an editor shows them."""

from __future__ import annotations

import codecs
import re

from pipeline_lib.core.errors import TextFileError

_REMEDY = "Save the file as UTF-8."
_OTHER = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def decoded(content: bytes, where: str) -> str:
    """The text of a file in UTF-8, with a mark of its encoding (BOM) or without, or in UTF-16.

    Raises:
        TextFileError: it is in another encoding, or no text; says at which byte.
    """
    if content.startswith(_OTHER):
        raise TextFileError(f"{where} is UTF-32, by its byte 0.", _REMEDY)
    encoding, skip = "utf-8", 0
    if content.startswith(codecs.BOM_UTF8):
        skip = 3
    elif content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding, skip = "utf-16-le" if content.startswith(codecs.BOM_UTF16_LE) else "utf-16-be", 2
    else:
        encoding = _unmarked(content)
    try:
        text = content[skip:].decode(encoding)
    except UnicodeDecodeError as error:
        at = error.start + skip
        raise TextFileError(
            f"{where} is not {encoding.upper()}: byte {at} is 0x{content[at]:02x} ({error.reason}).", _REMEDY
        ) from error
    if "\0" in text:
        at = skip + len(text[: text.index("\0")].encode(encoding))
        raise TextFileError(f"{where} is no text: byte {at} is 0x00.", _REMEDY)
    return text


def _unmarked(content: bytes) -> str:
    """UTF-16 where nearly all zeros are in the same half of two bytes each, as in Latin letters and line ends."""
    first, second = content[::2].count(0), content[1::2].count(0)
    if len(content) % 2 or max(first, second) <= 3 * min(first, second):
        return "utf-8"
    return "utf-16-be" if first > second else "utf-16-le"


def lines(text: str) -> list[str]:
    """The lines, cut at line feeds and carriage returns only: not at the form feeds, U+0085, U+2028 and others at
    which `str.splitlines` cuts, and which may stand in a prompt or within JSON."""
    return re.split(r"\r\n|\n|\r", text)
