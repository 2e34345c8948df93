"""Names of files and columns that mean something to sources."""

from __future__ import annotations

import re
from urllib.parse import unquote

IMAGES = ("jpg_0", "jpg_1")
REQUIRED = ("caption", "image_0_uid", "image_1_uid", "label_0")
SPLIT = "split"
"""A column, of the file or of its path, that says which split a row belongs to."""

_DATA = re.compile(r"\.(parquet|parq|pq)$", re.IGNORECASE)
_PARTITION = re.compile(r"([^=]+)=(.*)")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def is_data(path: str) -> bool:
    """Whether a relative path is one of Parquet: by its suffix, and not hidden.

    Names that begin with a dot or an underscore are what tools leave behind, as everywhere where Parquet is read; but
    not where the underscore begins a partition column.
    """
    return bool(_DATA.search(path)) and not any(hidden(part) for part in path.split("/"))


def hidden(name: str) -> bool:
    """Whether a file or folder of this name holds no data."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def stem(name: str) -> str:
    """A file's name without the suffix that says it is Parquet."""
    return _DATA.sub("", name)


def partitions(path: str) -> dict[str, str | None]:
    """The columns that the folders of a relative path say, as Hive writes them: `model_0=sdxl/year=2024/a.parquet`."""
    found: dict[str, str | None] = {}
    for part in path.split("/")[:-1]:
        if match := _PARTITION.fullmatch(part):
            found[unquote(match[1])] = None if match[2] == _NULL else unquote(match[2])
    return found
