"""The stage "scores-<scorer>": one score per distinct (image, prompt) of the pairs, sharded like the images.

Tables: "" (schemas.SCORES) and "quarantine" (images that cannot be decoded, scores that are not finite).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline_lib import images
from pipeline_lib.digest import canonical_json
from pipeline_lib.hub import HUB
from pipeline_lib.schemas import QUARANTINE, SCORES
from pipeline_lib.scoring import engine
from pipeline_lib.scoring.base import ImageTower, Scorer
from pipeline_lib.store import Dataset, DatasetWriter, Shard, writer

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
METADATA_KEY = b"pipeline.scorer"


@dataclass(frozen=True)
class Work:
    """One scorer's dataset, finished or to be written."""

    scorer: str
    identity: Mapping[str, Any]
    writer: DatasetWriter


def score(
    store: str,
    scorers: Sequence[str],
    ingested: Dataset,
    mirror: str = HUB,
    progress: Callable[[int, int], None] | None = None,
    device: str = "auto",
) -> dict[str, Dataset]:
    """Score all pairs of an ingest dataset; finished scorers are returned at once, started ones continued.

    Args:
        store: root of the dataset store.
        scorers: names of SCORERS.
        ingested: dataset of the stage "ingest" (tables "pairs" and "images").
        mirror: where weights come from.
        progress: called with (shards done, shards in all).
        device: see `engine.load_scorers`.

    Returns:
        Scorer name -> dataset. Scorers that look at the image alone have one row per image and a null prompt_id.
    """
    work = open_work(store, scorers, ingested, mirror, device)
    datasets = {item.scorer: done for item in work if (done := item.writer.finished()) is not None}
    missing = [item for item in work if item.scorer not in datasets]
    if missing:
        loaded = engine.load_scorers([item.scorer for item in missing], mirror, device)
        total = len(ingested.tables("images"))
        shards: dict[str, list[Shard]] = {item.scorer: [] for item in missing}
        for index in range(total):
            for name, written in score_shard(missing, loaded, ingested, index).items():
                shards[name] += written
            if progress is not None:
                progress(index + 1, total)
        datasets |= {item.scorer: item.writer.commit(shards[item.scorer]) for item in missing}
    return {item.scorer: datasets[item.scorer] for item in work}


def open_work(
    store: str, scorers: Sequence[str], ingested: Dataset, mirror: str = HUB, device: str = "auto"
) -> list[Work]:
    """The datasets that hold these scorers' scores of `ingested`, each once. Finds and hashes weights, loads none."""
    questions = engine.identities(dict.fromkeys(scorers), mirror, device)
    return [
        Work(name, identity, writer(store, f"scores-{name}", VERSION, identity, [ingested]))
        for name, identity in questions.items()
    ]


def score_shard(
    work: Sequence[Work], loaded: Sequence[Scorer], ingested: Dataset, index: int
) -> dict[str, list[Shard]]:
    """Score the images of image shard `index` with every scorer whose shard is not there yet.

    Args:
        work: datasets to write.
        loaded: the scorers of `work`, in any order; others are not run.
        index: position in `ingested.tables("images")`.

    Returns:
        Scorer name -> its score shard and its quarantine shard.
    """
    paths = (f"part-{index:05d}.parquet", f"quarantine/part-{index:05d}.parquet")
    shards: dict[str, list[Shard]] = {}
    for item in work:
        there = [shard for path in paths if (shard := item.writer.existing(path)) is not None]
        if len(there) == len(paths):
            shards[item.scorer] = there
    todo = [item for item in work if item.scorer not in shards]
    if not todo:
        return shards
    by_name = {scorer.name: scorer for scorer in loaded}
    results = _score_images([by_name[item.scorer] for item in todo], ingested, ingested.tables("images")[index])
    for item in todo:
        result = results[item.scorer]
        metadata = {METADATA_KEY: canonical_json(item.identity).encode()}
        scores = pa.Table.from_pylist(result.scores, SCORES.with_metadata(metadata))
        refused = pa.Table.from_pylist(result.quarantine, QUARANTINE)
        shards[item.scorer] = [
            item.writer.write_table(paths[0], scores, {"scored": len(result.scores)}),
            item.writer.write_table(paths[1], refused, Counter(row["reason"] for row in result.quarantine)),
        ]
    return shards


@dataclass(frozen=True)
class _Result:
    """Rows of the two tables of one scorer."""

    scores: list[dict[str, Any]] = field(default_factory=list)
    quarantine: list[dict[str, str]] = field(default_factory=list)

    def reject(self, locator: str, reason: str, detail: str) -> None:
        self.quarantine.append({"locator": locator, "reason": reason, "detail": detail})


def _score_images(scorers: Sequence[Scorer], ingested: Dataset, shard: Shard) -> dict[str, _Result]:
    """Scorer name -> rows for the images of one shard, in the shard's order, prompts of an image by id."""
    asked = _asked(ingested, shard)
    prompts = dict(sorted(zip(asked["prompt_id"], asked["prompt"], strict=True)))
    row = {prompt_id: index for index, prompt_id in enumerate(prompts)}
    wanted: dict[str, list[str]] = {}
    for image_uid, prompt_id in zip(asked["image_uid"], asked["prompt_id"], strict=True):
        wanted.setdefault(image_uid, []).append(prompt_id)
    text = engine.encode_prompts(scorers, list(prompts.values()))
    towers = engine.distinct_towers(scorers)
    results = {scorer.name: _Result() for scorer in scorers}

    def prepare(image: tuple[str, bytes]) -> tuple[str, list[Tensor] | str]:
        return image[0], _prepare(image[1], towers)

    for batch in engine.ahead(_images(ingested, shard), prepare):
        readable: list[tuple[str, list[Tensor]]] = []
        for uid, prepared in batch:
            if isinstance(prepared, str):
                for result in results.values():
                    result.reject(uid, "unreadable_image", prepared)
            else:
                readable.append((uid, prepared))
        if not readable:
            continue
        by_pair = [(uid, prompt_id) for uid, _ in readable for prompt_id in wanted.get(uid, [])]
        place = {uid: index for index, (uid, _) in enumerate(readable)}
        pairs = [(place[uid], row[prompt_id]) for uid, prompt_id in by_pair]
        by_image = [(uid, None) for uid, _ in readable]
        values = engine.score_batch(scorers, [prepared for _, prepared in readable], pairs, text)
        for scorer in scorers:
            _collect(results[scorer.name], by_pair if scorer.needs_prompt else by_image, values[scorer.name])
    return results


def _collect(result: _Result, keys: Sequence[tuple[str, str | None]], values: np.ndarray) -> None:
    for (uid, prompt_id), value in zip(keys, values.tolist(), strict=True):
        if math.isfinite(value):
            result.scores.append({"image_uid": uid, "prompt_id": prompt_id, "score": value})
        else:
            where = uid if prompt_id is None else f"{uid} for prompt {prompt_id}"
            result.reject(where, "non_finite_score", str(value))


def _prepare(content: bytes, towers: Sequence[ImageTower]) -> list[Tensor] | str:
    """Pixels for each tower, or what is wrong with the image."""
    try:
        image = images.decode(content)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{type(error).__name__}: {error}"
    return engine.prepare(image, towers)


def _asked(ingested: Dataset, shard: Shard) -> pl.DataFrame:
    """Distinct (image_uid, prompt_id, prompt) of the pairs whose image lies in the shard, sorted."""
    uids = pl.from_arrow(ingested.read(shard, ["image_uid"]))
    pairs = ingested.scan("pairs")
    sides = [pairs.select(pl.col(side).alias("image_uid"), "prompt_id", "prompt") for side in ("image_0", "image_1")]
    mine = pl.concat(sides).join(pl.LazyFrame(uids), on="image_uid", how="semi")
    return mine.unique(["image_uid", "prompt_id"], keep="any").sort("image_uid", "prompt_id").collect()


def _images(ingested: Dataset, shard: Shard) -> Iterator[tuple[str, bytes]]:
    """(image_uid, bytes) of one shard, a batch in memory at a time."""
    with ingested.open(shard.path) as file:
        for batch in pq.ParquetFile(file).iter_batches(engine.BATCH_SIZE, columns=["image_uid", "bytes"]):
            yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
