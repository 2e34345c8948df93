"""Small sources in the Pick-a-Pic v2 schema, written for tests."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PICKAPIC_V2 = pa.schema(
    [
        pa.field("are_different", pa.bool_()),
        pa.field("best_image_uid", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("created_at", pa.timestamp("us")),
        pa.field("has_label", pa.bool_()),
        pa.field("image_0_uid", pa.string()),
        pa.field("image_0_url", pa.string()),
        pa.field("image_1_uid", pa.string()),
        pa.field("image_1_url", pa.string()),
        pa.field("jpg_0", pa.binary()),
        pa.field("jpg_1", pa.binary()),
        pa.field("label_0", pa.float64()),
        pa.field("label_1", pa.float64()),
        pa.field("model_0", pa.string()),
        pa.field("model_1", pa.string()),
        pa.field("ranking_id", pa.int64()),
        pa.field("user_id", pa.int64()),
        pa.field("num_example_per_prompt", pa.int64()),
        pa.field("__index_level_0__", pa.int64()),
    ]
)


def image_bytes(uid: str, size: int = 16, kind: str = "PNG") -> bytes:
    """An image of random pixels that depend on `uid` only."""
    rng = np.random.default_rng(list(uid.encode()))
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(out, kind)
    return out.getvalue()


def row(i: int, **changes: Any) -> dict[str, Any]:
    """A sound row, the i-th of its ranking: images "i-a" and "i-b", the first preferred; `changes` replace columns."""
    uids = str(changes.get("image_0_uid", f"{i}-a")), str(changes.get("image_1_uid", f"{i}-b"))
    values = {
        "are_different": True,
        "best_image_uid": uids[0],
        "caption": f"prompt {i % 3}",
        "created_at": datetime.datetime(2023, 5, 1) + datetime.timedelta(minutes=i),
        "has_label": True,
        "image_0_uid": uids[0],
        "image_1_uid": uids[1],
        "jpg_0": image_bytes(uids[0]),
        "jpg_1": image_bytes(uids[1], kind="JPEG"),
        "label_0": 1.0,
        "label_1": 0.0,
        "model_0": "m0",
        "model_1": "m1",
        "ranking_id": i,
        "user_id": i % 2,
        "num_example_per_prompt": 1,
        "__index_level_0__": i,
    }
    return {**values, **changes}


def write_file(
    path: Path, rows: Sequence[dict[str, Any]], row_group: int = 4, schema: pa.Schema = PICKAPIC_V2
) -> Path:
    """One Parquet file. Captions may be bytes that are not UTF-8."""
    captions = pa.array([c.encode() if isinstance(c := r.get("caption"), str) else c for r in rows], pa.binary()).view(
        pa.string()
    )
    table = pa.Table.from_pylist([{**r, "caption": None} for r in rows], schema=schema)
    table = table.set_column(table.column_names.index("caption"), schema.field("caption"), captions)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group)
    return path


def write_source(folder: Path, *files: Sequence[dict[str, Any]], split: str = "train") -> Path:
    """A folder with one Parquet file per list of rows."""
    for i, rows in enumerate(files):
        write_file(folder / f"{split}-{i:05d}-of-{len(files):05d}.parquet", rows)
    return folder
