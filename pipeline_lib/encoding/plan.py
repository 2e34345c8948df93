"""What the encode stage is to do, or has done: its dataset is found without torch."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pipeline_lib.core.config import BaseModel, EncodeConfig
from pipeline_lib.core.digest import text_id
from pipeline_lib.core.identity import identity, settled
from pipeline_lib.core.store import Dataset, DatasetWriter, writer
from pipeline_lib.data.ingest.checks import require_some_pairs
from pipeline_lib.models.parts import encoder_digest
from pipeline_lib.models.supported import check_supported

STAGE = "encoded"
VERSION = 1
LATENTS = "latents"
PROMPTS = "prompts"
SHAPE_KEY = b"pipeline.encoded"
"""Schema metadata: JSON with `shape` of one row's arrays; latents: also `scaling_factor`, `resolution`, `flipped`."""
EMPTY_PROMPT_ID = text_id("")
PROMPTS_PER_SHARD = 1024


@dataclass(frozen=True)
class Encoding:
    """An encoding in progress, as plain data that can go to any process."""

    writer: DatasetWriter
    model: BaseModel
    config: EncodeConfig
    ingested: str
    """URI of the ingest dataset."""
    image_shards: int
    prompt_shards: int

    @property
    def shards(self) -> int:
        """Those of images come first."""
        return self.image_shards + self.prompt_shards


def open_encoding(store: str, model: BaseModel, config: EncodeConfig, ingested: Dataset) -> Encoding | Dataset:
    """What is to be encoded, or the dataset if it is there. The base model is found, checked and hashed, nothing is
    loaded."""
    check_supported(model)
    require_some_pairs(ingested)
    w = encoded_writer(store, model, config, ingested)
    if done := w.finished():
        return done
    prompts = len(unique_prompts(ingested))
    return Encoding(w, model, config, ingested.uri, len(ingested.tables("images")), -(-prompts // PROMPTS_PER_SHARD))


def encoded_writer(store: str, model: BaseModel, config: EncodeConfig, ingested: Dataset) -> DatasetWriter:
    """The writer of the encoded dataset; its key holds the digest of the encoders' files, not where they lie."""
    base = {
        "family": model.family,
        "repo": model.repo,
        "vae_repo": model.vae_repo,
        "weights": encoder_digest(model),
    }
    settings = settled(config)
    late = ("aspect", "flipped", "empty_prompt")  # in no key at their default when the others were in every one
    told = {
        name: value for name, value in settings.items() if name not in late or value != getattr(EncodeConfig, name)
    }
    return writer(
        store,
        STAGE,
        VERSION,
        {"model": base, "encode": told},
        [ingested],
        identity={"model": identity(base, BaseModel), "encode": identity(settings, EncodeConfig)},
        modules=["pipeline_lib.encoding.stage"],
    )


def unique_prompts(ingested: Dataset) -> pl.DataFrame:
    """prompt_id and prompt of every pair once, plus the empty prompt, by id."""
    found = ingested.scan("pairs").select("prompt_id", "prompt").unique("prompt_id", keep="any").collect()
    empty = pl.DataFrame({"prompt_id": [EMPTY_PROMPT_ID], "prompt": [""]})
    return pl.concat([found, empty]).unique("prompt_id", keep="first").sort("prompt_id")
