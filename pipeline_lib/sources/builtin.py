"""The pairs of the built-in world (`shapes://pairs`), shipped with the package."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipeline_lib.config import IngestConfig
from pipeline_lib.digest import file_sha256
from pipeline_lib.errors import SourceError
from pipeline_lib.sources.files import Source, SourceFile, split_source

URL = "shapes://pairs"


def open_builtin(config: IngestConfig) -> Source:
    """Like a local folder, but versioned by content: a fresh checkout has new modification times, the same pairs."""
    if config.source.rstrip("/") != URL:
        raise SourceError(f"The built-in world has no {config.source}.", f"Use {URL}.")
    from pipeline_lib.shapes import pairs_dir

    root = Path(pairs_dir())
    files = [
        SourceFile(path.relative_to(root).as_posix(), str(path), path.stat().st_size, file_sha256(path))
        for path in sorted(root.rglob("*.parquet"))
    ]
    return split_source(URL, config.split, files)


def truth() -> pl.DataFrame:
    """image_uid, prompt_id and true utility of every image of the built-in pairs."""
    from pipeline_lib.ingest import normalise_prompt, prompt_id
    from pipeline_lib.shapes import assets_dir

    table = pl.read_parquet(assets_dir() / "truth.parquet", columns=["image_uid", "prompt", "true_utility"])
    prompts = table["prompt"].unique(maintain_order=True)
    ids = [prompt_id(normalise_prompt(prompt)) for prompt in prompts]
    return table.select(
        "image_uid",
        pl.col("prompt").replace_strict(prompts, ids).alias("prompt_id"),
        pl.col("true_utility").alias("utility"),
    )
