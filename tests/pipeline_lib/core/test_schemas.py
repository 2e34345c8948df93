"""Tables conform to their schemas or say what is wrong."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline_lib.core import schemas
from pipeline_lib.core.errors import SchemaError


def test_conform_casts_reorders_and_keeps_extra_columns_last() -> None:
    table = pa.table({"extra": [7], "score": pa.array([0.5], pa.float64()), "prompt_id": ["p"], "image_uid": ["i"]})
    result = schemas.conform(table.replace_schema_metadata({"k": "v"}), schemas.SCORES, "scores")
    assert result.schema.names == ["image_uid", "prompt_id", "score", "extra"]
    assert result.schema.field("score").type == pa.float32()
    assert not result.schema.field("score").nullable
    assert result.schema.metadata == {b"k": b"v"}


def test_conform_names_missing_columns() -> None:
    with pytest.raises(SchemaError, match=r"here: missing column\(s\) prompt_id, score"):
        schemas.conform(pa.table({"image_uid": ["i"]}), schemas.SCORES, "here")


@pytest.mark.parametrize(
    "columns",
    [
        {"image_uid": ["i"], "prompt_id": ["p"], "score": ["high"]},
        {"image_uid": ["i"], "prompt_id": ["p"], "score": pa.array([None], pa.float32())},
        {"image_uid": ["i"], "prompt_id": ["p"], "score": pa.array([[1.0]])},
    ],
)
def test_conform_refuses_wrong_types_and_nulls(columns: dict[str, object]) -> None:
    with pytest.raises(SchemaError, match="here"):
        schemas.conform(pa.table(columns), schemas.SCORES, "here")


def test_sized_schemas() -> None:
    latents = schemas.latents(4 * 16 * 16)
    assert latents.field("mean").type.list_size == latents.field("std").type.list_size == 1024
    embeddings = schemas.prompt_embeddings(77 * 2048, 1280)
    assert embeddings.field("embedding").type == pa.list_(pa.float16(), 77 * 2048)
    assert embeddings.field("pooled").type.list_size == 1280
    assert "pooled" not in schemas.prompt_embeddings(77 * 768, 0).names, "Parquet has no lists of length 0"
