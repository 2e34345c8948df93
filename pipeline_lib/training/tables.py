"""What a run reads: its labels in memory, and the latents and embeddings they need as memory-mapped arrays.

Parquet is compressed and cannot be mapped, so the rows a run needs are unpacked once into `.npy` files in its folder.
Memory use is one shard while unpacking, and the pages in use while training.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline_lib.core import schemas
from pipeline_lib.core.digest import digest
from pipeline_lib.core.errors import LabelError, SchemaError
from pipeline_lib.core.store import Dataset
from pipeline_lib.encoding.plan import EMPTY_PROMPT_ID, LATENTS, PROMPTS, SHAPE_KEY
from pipeline_lib.training.mapped import new_array

LABEL_COLUMNS = (
    "pair_id",
    "prompt_id",
    "image_0",
    "image_1",
    "target",
    "is_human",
    "human",
    "g_hat",
    "weight",
    "flipped",
)


@dataclass(frozen=True)
class Tables:
    """Pairs, by pair id, with the rows of their images and prompt.

    Attributes:
        keys: a 64-bit hash of each pair id, uint64 [pairs]; the identity from which a pair's noise is drawn.
        images: rows of images 0 and 1 in `moments`, int64 [pairs, 2].
        prompts: row of the prompt in `embeddings`, int64 [pairs].
        labels: target, is_human, human, g_hat, weight, flipped as fp32 [6, pairs]; 0 where there is none.
        moments: VAE mean and std, fp16 [images, 2, C, H, W], or [images, 4, C, H, W] with those of the mirrored image.
        embeddings: text embeddings, fp16 [prompts, tokens, width].
        pooled: pooled text, fp16 [prompts, width], or None.
        empty_prompt: row of the empty prompt.
        scaling_factor: the VAE's factor from posterior samples to latents.
        resolution: side of the encoded images, in pixels.
    """

    keys: np.ndarray
    images: np.ndarray
    prompts: np.ndarray
    labels: np.ndarray
    moments: np.ndarray
    embeddings: np.ndarray
    pooled: np.ndarray | None
    empty_prompt: int
    scaling_factor: float
    resolution: int

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def flippable(self) -> bool:
        """The images were also encoded mirrored."""
        return self.moments.shape[1] == 4

    @property
    def labelled_share(self) -> float:
        """Share of pairs with a human label: n_l / (n_l + n_u)."""
        return float(self.labels[1].mean())

    @property
    def flips_known(self) -> bool:
        """Some label was inverted on purpose."""
        return bool(self.labels[5].any())


def read_labels(labels: Dataset) -> pl.DataFrame:
    """The label columns training uses, by pair id; raises SchemaError when one is missing."""
    table = labels.scan()
    missing = set(LABEL_COLUMNS) - set(table.collect_schema().names())
    if missing:
        raise SchemaError(f"{labels.uri} lacks the columns {sorted(missing)}.", "Give a dataset of the label stage.")
    frame = table.select(LABEL_COLUMNS).collect().sort("pair_id")
    repeated = len(frame) - frame["pair_id"].n_unique()
    if repeated:
        raise LabelError(f"{labels.uri}: {repeated} pair ids occur more than once.", "Build the labels again.")
    return frame


def open_tables(encoded: Dataset, labels: pl.DataFrame, cache: Path) -> Tables:
    """Unpack what `labels` need from the encoded dataset below `cache` (once), and map it.

    Raises:
        LabelError: an image or prompt of the labels was not encoded.
        DiskFullError: they do not fit below `cache`, where nothing is left of the attempt.
    """
    uids = pl.concat([labels["image_0"], labels["image_1"]]).unique().sort()
    prompt_ids = pl.concat([labels["prompt_id"], pl.Series([EMPTY_PROMPT_ID])]).unique().sort()
    folder = cache / digest([encoded.digest, digest([uids.to_list(), prompt_ids.to_list()])], 16)
    latent_meta, prompt_meta = _metadata(encoded, LATENTS), _metadata(encoded, PROMPTS)
    if not folder.is_dir():
        _unpack(encoded, uids, prompt_ids, latent_meta, prompt_meta, folder)
    columns = labels.select(
        pl.col("target"),
        pl.col("is_human").cast(pl.Float32),
        pl.when("is_human").then("human").otherwise(0.0).fill_null(0.0).alias("human"),
        pl.col("g_hat").fill_null(0.0),
        pl.col("weight"),
        pl.col("flipped").cast(pl.Float32).fill_null(0.0),
    )
    return Tables(
        keys=np.array([_key(pair_id) for pair_id in labels["pair_id"]], np.uint64),
        images=np.stack([_rows(uids, labels["image_0"]), _rows(uids, labels["image_1"])], 1),
        prompts=_rows(prompt_ids, labels["prompt_id"]),
        labels=columns.to_numpy().astype(np.float32).T.copy(),
        moments=np.load(folder / "moments.npy", mmap_mode="r"),
        embeddings=np.load(folder / "embeddings.npy", mmap_mode="r"),
        pooled=np.load(folder / "pooled.npy", mmap_mode="r") if prompt_meta["pooled"] else None,
        empty_prompt=int(_rows(prompt_ids, pl.Series([EMPTY_PROMPT_ID]))[0]),
        scaling_factor=float(latent_meta["scaling_factor"]),
        resolution=int(latent_meta["resolution"]),
    )


def _unpack(
    encoded: Dataset,
    uids: pl.Series,
    prompt_ids: pl.Series,
    latents: dict[str, Any],
    prompts: dict[str, Any],
    to: Path,
) -> None:
    """Write the needed rows to `to`, published by a rename so that a half-written folder is never read."""
    scratch = to.with_name(f".{to.name}.{uuid.uuid4().hex}.tmp")
    scratch.mkdir(parents=True)
    try:
        shape = latents["shape"]
        columns = schemas.moment_columns(bool(latents.get("flipped")))
        moments = new_array(scratch / "moments.npy", np.float16, (len(uids), len(columns), *shape))
        for rows, found, table in _matching(encoded, LATENTS, "image_uid", uids):
            for i, column in enumerate(columns):
                moments[rows, i] = _column(table, column, shape)[found]
        embeddings = new_array(scratch / "embeddings.npy", np.float16, (len(prompt_ids), *prompts["shape"]))
        wide = prompts["pooled"]
        pooled = new_array(scratch / "pooled.npy", np.float16, (len(prompt_ids), wide)) if wide else None
        for rows, found, table in _matching(encoded, PROMPTS, "prompt_id", prompt_ids):
            embeddings[rows] = _column(table, "embedding", prompts["shape"])[found]
            if pooled is not None:
                pooled[rows] = _column(table, "pooled", [wide])[found]
        for array in (moments, embeddings, pooled):
            if array is not None:
                array.flush()
        try:
            os.rename(scratch, to)
        except OSError:
            if not to.is_dir():  # otherwise another process of this run was faster, with the same bytes
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _matching(encoded: Dataset, table: str, key: str, wanted: pl.Series) -> Any:
    """For each shard: rows in `wanted`, rows in the shard, the shard. Raises LabelError if one is missing."""
    seen = np.zeros(len(wanted), bool)
    index = pl.DataFrame({"key": wanted, "row": np.arange(len(wanted))})
    for shard in encoded.tables(table):
        content = encoded.read(shard)
        here = pl.DataFrame({"key": pl.Series(content[key].to_pylist(), dtype=pl.String)}).with_row_index("found")
        hit = here.join(index, on="key", how="inner", maintain_order="left")
        rows, found = hit["row"].to_numpy(), hit["found"].to_numpy().astype(np.int64)
        seen[rows] = True
        yield rows, found, content
    if not seen.all():
        absent = wanted.filter(pl.Series(~seen)).to_list()
        raise LabelError(
            f"{encoded.uri} lacks {table} for {len(absent)} of {len(wanted)} the labels need, such as {absent[0]}.",
            "Encode the ingested dataset that the labels were built from.",
        )


def _metadata(encoded: Dataset, table: str) -> dict[str, Any]:
    shards = encoded.tables(table)
    raw = (encoded.read(shards[0], columns=[]).schema.metadata or {}).get(SHAPE_KEY) if shards else None
    if raw is None:
        raise SchemaError(
            f"{encoded.uri} has no table {table!r} of the encode stage.", "Give a dataset of that stage."
        )
    return json.loads(raw)


def _column(table: pa.Table, name: str, shape: list[int]) -> np.ndarray:
    return table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape)


def _rows(sorted_keys: pl.Series, keys: pl.Series) -> np.ndarray:
    """Positions of `keys` in `sorted_keys`, which has them all."""
    return sorted_keys.search_sorted(keys).to_numpy().astype(np.int64)


def _key(pair_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(pair_id.encode(), digest_size=8).digest(), "big")
