"""The pairs of the built-in world, shipped with the package: `shapes://pairs`, and on test captions `shapes://heldout`."""

from __future__ import annotations

import polars as pl

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.digest import file_sha256
from pipeline_lib.core.errors import SourceError
from pipeline_lib.data.sources.files import Source, SourceFile, split_source

PAIRS = "shapes://pairs"
HELD_OUT = "shapes://heldout"


def open_builtin(config: IngestConfig) -> Source:
    """Like a local folder, but versioned by content: a fresh checkout has new modification times, the same pairs."""
    from pipeline_lib.shapes import held_out_dir, pairs_dir

    url = config.source.rstrip("/")
    folders = {PAIRS: pairs_dir(), HELD_OUT: held_out_dir()}
    if url not in folders:
        raise SourceError(f"The built-in world has no {config.source}.", f"Use {' or '.join(folders)}.")
    root = folders[url]
    files = [
        SourceFile(path.relative_to(root).as_posix(), str(path), path.stat().st_size, file_sha256(path))
        for path in sorted(root.rglob("*.parquet"))
    ]
    return split_source(url, config.split, files)


def truth() -> pl.DataFrame:
    """image_uid, prompt_id and true utility of every image of the built-in pairs."""
    from pipeline_lib.data.prompts import normalise_prompt, prompt_id
    from pipeline_lib.shapes import assets_dir

    files = [assets_dir() / name for name in ("truth.parquet", "heldout_truth.parquet")]
    table = pl.read_parquet(files, columns=["image_uid", "prompt", "true_utility"])
    prompts = table["prompt"].unique(maintain_order=True)
    ids = [prompt_id(normalise_prompt(prompt)) for prompt in prompts]
    return table.select(
        "image_uid",
        pl.col("prompt").replace_strict(prompts, ids).alias("prompt_id"),
        pl.col("true_utility").alias("utility"),
    )
