"""The cheap half of a source row: everything but the images, normalised and checked."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline_lib.core.digest import text_id
from pipeline_lib.core.errors import SourceError, UnreadableFileError
from pipeline_lib.data.ingest.reasons import Reason
from pipeline_lib.data.prompts import normalise_prompt, prompt_id
from pipeline_lib.data.sources.columns import IMAGES, REQUIRED, SPLIT
from pipeline_lib.data.sources.splits import same_split

OPTIONAL = ("label_1", "has_label", "user_id", "model_0", "model_1", "created_at", "ranking_id")

NOT_CHOSEN = "not-chosen"
"""Stands in the column `reason` for a row that the `models` filter leaves out: neither a pair nor quarantined."""
OTHER_SPLIT = "other-split"
"""The same for a row whose column `split` says another one, which is its `detail`."""

ROWS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # row number in the source file
        pa.field("pair_id", pa.string()),
        pa.field("prompt_id", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("image_0", pa.string()),
        pa.field("image_1", pa.string()),
        pa.field("label_0", pa.float32()),
        pa.field("user_id", pa.string()),
        pa.field("model_0", pa.string()),
        pa.field("model_1", pa.string()),
        pa.field("created_at", pa.string()),
        pa.field("reason", pa.string()),  # null: nothing wrong so far
        pa.field("detail", pa.string()),
    ]
)


def check_schema(schema: pa.Schema, where: str, partitions: Collection[str] = ()) -> None:
    """Check that the columns, with those that the file's folders say, are those of Pick-a-Pic v1 or v2 with images.

    Raises:
        UnreadableFileError: columns are missing, or the images are not bytes.
        SourceError: it is a mirror without images, which no file can make good.
    """
    names = schema.names
    if not set(IMAGES) <= set(names) and {"image_0_url", "image_1_url"} <= set(names):
        raise SourceError(
            f"{where} is a no-images mirror: it has labels and image URLs but not the columns jpg_0 and jpg_1.",
            "Use a mirror that holds the image bytes (the URLs of Pick-a-Pic are dead).",
        )
    missing = [name for name in REQUIRED if name not in names and name not in partitions]
    missing += [name for name in IMAGES if name not in names]
    if missing:
        raise UnreadableFileError(
            f"{where} lacks column(s) {', '.join(missing)}; it has {', '.join(names)}.",
            "Write the pairs with the columns of Pick-a-Pic v2.",
        )
    for name in IMAGES:
        kind = schema.field(name).type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise UnreadableFileError(f"{where}: {name} is {kind}, not bytes.", "Store encoded image bytes there.")


def parse(
    table: pa.Table, first_row: int, where: str, models: Collection[str] | None = None, splits: Collection[str] = ()
) -> pa.Table:
    """Normalise and check source rows; `table` holds the columns of REQUIRED and what there is of OPTIONAL and SPLIT.

    With `models`, a row whose generators are not both named there gets the reason NOT_CHOSEN, whatever else it holds;
    with `splits`, names of the split that is read, one whose column SPLIT says another gets OTHER_SPLIT.

    Returns:
        A table of schema ROWS, one row per source row: a rejected row has a reason, and only its row number is meant
        to be used. `pair_id` is a digest of everything that identifies the comparison, its label included, so two
        rows have the same one exactly when they say the same thing.

    Raises:
        UnreadableFileError: a column has another type.
        SourceError: some rows say their split, and others none.
    """
    elsewhere = _elsewhere(table, splits, where) if splits else {}
    columns: dict[str, list[Any]] = {name: [None] * len(table) for name in OPTIONAL}
    for name in (*REQUIRED, *OPTIONAL):
        if name in table.column_names:
            numeric = pa.float64() if name.startswith("label_") else pa.bool_() if name == "has_label" else None
            columns[name] = _values(table.column(name), numeric, f"{where}, column {name}")
    prompts: dict[Any, tuple[str, Reason | None]] = {}
    out: dict[str, list[Any]] = {name: [] for name in ROWS.names}
    for i in range(len(table)):
        row = {name: columns[name][i] for name in columns}
        caption = row["caption"]
        if caption not in prompts:
            prompts[caption] = _prompt(caption)
        prompt, reason = prompts[caption]
        detail = ""
        label: float | None = None
        uids = _text(row["image_0_uid"]), _text(row["image_1_uid"])
        if reason is None and not all(uids):
            reason = Reason.MISSING_UID
        if reason is None and uids[0] == uids[1]:
            reason, detail = Reason.SAME_IMAGE, str(uids[0])
        if reason is None:
            label, problem = _label(row["has_label"], row["label_0"], row["label_1"])
            if problem:
                reason, detail = Reason.LABELS_INCONSISTENT, problem
        who = {name: _text(row[name]) for name in ("user_id", "model_0", "model_1", "created_at")}
        chosen = models is None or (who["model_0"] in models and who["model_1"] in models)
        identity = (prompt, *uids, label, who["user_id"], who["created_at"], _text(row["ranking_id"]))
        out["row"].append(first_row + i)
        out["pair_id"].append(text_id(*("" if part is None else str(part) for part in identity)))
        out["prompt_id"].append(prompt_id(prompt))
        out["prompt"].append(prompt)
        out["image_0"].append(uids[0])
        out["image_1"].append(uids[1])
        out["label_0"].append(label)
        for name, value in who.items():
            out[name].append(value)
        if i in elsewhere:
            reason, detail = None, elsewhere[i]
        out["reason"].append(OTHER_SPLIT if i in elsewhere else reason if chosen else NOT_CHOSEN)
        out["detail"].append(detail)
    return pa.table(out, schema=ROWS)


def splits_said(table: pa.Table, where: str) -> list[str | None] | None:
    """What the column SPLIT says, row by row; None where there is no such column, or nothing in it.

    Raises:
        SourceError: some rows say their split, and others none.
    """
    if SPLIT not in table.column_names:
        return None
    found = [
        (_text(value) or "").strip() or None for value in _values(table.column(SPLIT), None, f"{where}, column split")
    ]
    if silent := found.count(None):
        if silent == len(found):
            return None
        raise SourceError(
            f"{where}: {silent} of {len(found)} rows say no split in the column {SPLIT!r}, and others do.",
            "Fill the column in, or leave it out.",
        )
    return found


def _elsewhere(table: pa.Table, splits: Collection[str], where: str) -> dict[int, str]:
    """Row -> the other split that it says."""
    said = splits_said(table, where) or []
    other = {value for value in set(said) if value and not any(same_split(value, split) for split in splits)}
    return {i: value for i, value in enumerate(said) if value in other and value}


def prompt_ids(table: pa.Table, where: str) -> set[str]:
    """The ids of the usable prompts in the column `caption`."""
    read = (_prompt(caption) for caption in set(_values(table.column("caption"), None, f"{where}, column caption")))
    return {prompt_id(prompt) for prompt, reason in read if reason is None}


def unreadable(first_row: int, problem: str) -> pa.Table:
    """What stands for the rows of a unit that cannot be read: one row, rejected."""
    row = {"row": first_row, "reason": Reason.FILE_UNREADABLE.value, "detail": problem}
    return pa.Table.from_pylist([row], schema=ROWS)


def _values(column: pa.ChunkedArray, cast: pa.DataType | None, where: str) -> list[Any]:
    """Python values. Text stays bytes: Parquet does not promise that a string column is UTF-8."""
    kind = column.type
    try:
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
            kind = kind.value_type
        if cast is not None:
            return column.cast(cast).to_pylist()
        if pa.types.is_floating(kind):  # as pandas writes whole numbers among which one is missing
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        text = pa.types.is_string(kind) or pa.types.is_binary(kind)
        if not (text or pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)):
            column = column.cast(pa.string())
        return column.cast(pa.binary() if text else pa.large_binary()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UnreadableFileError(
            f"{where}: {error}.", "Write the column with the type it has in Pick-a-Pic v2."
        ) from error


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", errors="replace")


def _prompt(caption: bytes | None) -> tuple[str, Reason | None]:
    try:
        prompt = normalise_prompt((caption or b"").decode("utf-8"))
    except UnicodeDecodeError:
        return "", Reason.PROMPT_NOT_UTF8
    return prompt, None if prompt else Reason.PROMPT_EMPTY


def _label(has_label: bool | None, label_0: float | None, label_1: float | None) -> tuple[float | None, str]:
    """(the label of image 0 or None for an unlabelled pair, what is inconsistent or "")."""
    if has_label is False or (has_label is None and label_0 is None):
        return None, ""
    if label_0 is None or math.isnan(label_0) or label_0 not in (0.0, 0.5, 1.0):
        return None, f"label_0 is {label_0}, not 0, 0.5 or 1"
    if label_1 is not None and label_0 + label_1 != 1.0:
        return None, f"label_0 + label_1 is {label_0} + {label_1}, not 1"
    return label_0, ""
