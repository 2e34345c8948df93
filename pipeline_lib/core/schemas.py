"""Arrow schemas of every dataset in the store (DESIGN: one table per kind of row)."""

from __future__ import annotations

import pyarrow as pa

from pipeline_lib.core.errors import SchemaError

PAIRS = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("image_0", pa.string(), nullable=False),
        pa.field("image_1", pa.string(), nullable=False),
        pa.field("label_0", pa.float32()),  # 1 image_0 wins, 0 image_1 wins, 0.5 tie, null unlabelled
        pa.field("user_id", pa.string()),
        pa.field("model_0", pa.string()),
        pa.field("model_1", pa.string()),
        pa.field("created_at", pa.string()),
        pa.field("split", pa.string(), nullable=False),
    ]
)

IMAGES = pa.schema(
    [
        pa.field("image_uid", pa.string(), nullable=False),
        pa.field("bytes", pa.binary(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)

QUARANTINE = pa.schema(
    [
        pa.field("locator", pa.string(), nullable=False),  # file and row, or image uid: where the rejected thing is
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)

LEAKAGE = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),  # the other split
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("pairs", pa.int64(), nullable=False),  # of this split that have the prompt
    ]
)

SCORES = pa.schema(
    [
        pa.field("image_uid", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string()),  # null for scorers that look at the image alone
        pa.field("score", pa.float32(), nullable=False),
    ]
)

PREFERENCES = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("probability", pa.float32(), nullable=False),  # that image_0 wins, by a scorer that judges pairs
    ]
)

LABELS = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("image_0", pa.string(), nullable=False),
        pa.field("image_1", pa.string(), nullable=False),
        pa.field("target", pa.float32(), nullable=False),  # probability that image_0 wins
        pa.field("is_human", pa.bool_(), nullable=False),  # the target is a human label
        pa.field("human", pa.float32()),  # the human label, where known to the recipe
        pa.field("g_hat", pa.float32()),  # the synthetic annotator's probability that image_0 wins
        pa.field("vote_sum", pa.float32()),  # of the voters' weights, + for image_0
        pa.field("flipped", pa.bool_(), nullable=False),  # ground truth of injected noise; for diagnostics only
        pa.field("weight", pa.float32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # human, vote, g_hat, ...
    ]
)

EVALUATION = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
    ]
)


def moment_columns(flipped: bool = False) -> list[str]:
    """Columns of the encode stage with VAE moments; `flipped` adds those of the mirrored image."""
    return ["mean", "std", "mean_flipped", "std_flipped"] if flipped else ["mean", "std"]


def latents(size: int, flipped: bool = False) -> pa.Schema:
    """Rows of the encode stage: `size` = channels x height x width of the latent; mean and std are VAE moments."""
    moments = pa.list_(pa.float16(), size)
    return pa.schema(
        [
            pa.field("image_uid", pa.string(), nullable=False),
            *(pa.field(name, moments, nullable=False) for name in moment_columns(flipped)),
            pa.field("original_height", pa.int32(), nullable=False),
            pa.field("original_width", pa.int32(), nullable=False),
            pa.field("crop_top", pa.int32(), nullable=False),
            pa.field("crop_left", pa.int32(), nullable=False),
        ]
    )


def prompt_embeddings(size: int, pooled_size: int) -> pa.Schema:
    """Rows of the encode stage: `size` = tokens x width; `pooled` only where `pooled_size` is positive."""
    columns = [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float16(), size), nullable=False),
    ]
    if pooled_size:
        columns.append(pa.field("pooled", pa.list_(pa.float16(), pooled_size), nullable=False))
    return pa.schema(columns)


def conform(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """Cast the columns of `schema`, extra columns after them; raises SchemaError naming what is missing."""
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise SchemaError(
            f"{where}: missing column(s) {', '.join(missing)}; found {', '.join(table.column_names)}.",
            "Write the table with the columns of pipeline_lib/core/schemas.py.",
        )
    extra = [name for name in table.column_names if name not in schema.names]
    full = pa.schema([*schema, *(table.schema.field(name) for name in extra)], metadata=table.schema.metadata)
    try:
        return table.select(full.names).cast(full)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        raise SchemaError(f"{where}: {error}.", "Give the columns the types of core/schemas.py.") from error
