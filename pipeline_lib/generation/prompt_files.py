"""Prompts from a file, in the forms that people have them in.

| file | prompts |
|---|---|
| `.txt` | the lines |
| `.csv`, `.tsv`, `.parquet` | the column PROMPT, with categories where there is a column CATEGORY |
| `.json`, `.jsonl` | a list of texts, or of objects with a member PROMPT; an object of columns, or of such a list |
| `.json` | an object of lists of texts by their category |

A file with another suffix is JSON where it can be, else lines. Suffixes and columns may be in any case. A column
`prompt_id` of the file's own is not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import TextFileError, excerpt
from pipeline_lib.core.texts import decoded, lines
from pipeline_lib.data.records import column, json_values, kind_of, parquet, records_of, separated

PROMPT = ("prompt", "prompts", "caption", "captions")
"""Names of the column of prompts: the first of them that there is."""
CATEGORY = ("category",)

Found = tuple[list[str], list[str]]
"""Prompts, and the category of each or nothing."""


def read_prompts(path: Path) -> Found:
    """The prompts of a file, and their categories where it has any ("none" for one without).

    Raises:
        TextFileError: the file cannot be read: its encoding, its format, no column of prompts, or a prompt is no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TextFileError(f"Cannot read {path}: {error}.", "Check the path and its permissions.") from error
    kind, where = kind_of(content, path.name), str(path)
    if kind == "parquet":
        table = parquet(content, where)
        names = [name for name in (column(table.columns, known, where) for known in (PROMPT, CATEGORY)) if name]
        return _of_records(table.select(names).to_dicts(), table.columns, where)
    text = decoded(content, where)
    if kind == "json":
        return _of_json(json_values(text, where), where)
    if kind in ("csv", "tsv"):
        header, rows = separated(text, kind, where)
        return _of_records(rows, header, where)
    if kind is None and text.lstrip().startswith(("[", "{")):
        with suppress(TextFileError):  # else it is a prompt that begins so
            return _of_json(json_values(text, where), where)
    return lines(text), []


def _of_json(value: Any, where: str) -> Found:
    if isinstance(value, dict) and not any(name.strip().lower() in PROMPT for name in value):
        by_category = [(category, texts) for category, texts in value.items() if _texts(texts)]
        if by_category and len(by_category) == len(value):
            found = [(text, category) for category, texts in by_category for text in texts]
            return [text for text, _ in found], [category for _, category in found]
        if value and all(isinstance(text, str) and name.isdecimal() for name, text in value.items()):
            return list(value.values()), []
    records = records_of(value, PROMPT, where)
    if _texts(records):
        return records, []
    if wrong := [i for i, record in enumerate(records, start=1) if not isinstance(record, dict)]:
        raise TextFileError(
            f"{where}, entry {wrong[0]}: {excerpt(records[wrong[0] - 1])} is no object with a prompt, as others are.",
            "Give a list of texts, or of objects with a prompt each.",
        )
    for i, record in enumerate(records, start=1):
        if column(list(record), PROMPT, where) is None:
            raise TextFileError(_no_column(f"{where}, entry {i},", list(record)), _REMEDY)
    names = list(dict.fromkeys(name for record in records for name in record))
    return _of_records(records, names, where)


def _of_records(records: Sequence[dict[str, Any]], names: Sequence[str], where: str) -> Found:
    prompt, category = column(names, PROMPT, where), column(names, CATEGORY, where)
    if prompt is None:
        raise TextFileError(_no_column(where, names), _REMEDY)
    texts = [_text(record.get(prompt), f"{where}, entry {i}") for i, record in enumerate(records, start=1)]
    if category is None:
        return texts, []
    return texts, [str(record.get(category) or "").strip() or "none" for record in records]


def _text(value: Any, where: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):  # NaN is pandas' way to say nothing
        return ""
    if isinstance(value, str):
        return value
    raise TextFileError(f"{where}: the prompt is {excerpt(value)}, which is no text.", "Give each prompt as text.")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


_REMEDY = "Name the column of prompts 'Prompt', or give a .txt file with one prompt per line."


def _no_column(where: str, names: Sequence[str]) -> str:
    return f"{where} has no column 'Prompt'; it has {', '.join(names) or 'none'}."
