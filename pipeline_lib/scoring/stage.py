"""The stage "scores-<scorer>": one score per distinct (image, prompt) of the pairs, sharded like the images.

Tables: "" (schemas.SCORES) and "quarantine" (images that cannot be decoded, scores that are not finite).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.core.digest import canonical_json
from pipeline_lib.core.hub import HUB
from pipeline_lib.core.schemas import QUARANTINE, SCORES
from pipeline_lib.core.store import Dataset, DatasetWriter, Shard, writer
from pipeline_lib.data.ingest.checks import require_some_pairs
from pipeline_lib.scoring import decode_worker, engine
from pipeline_lib.scoring.base import ImageTower, Scorer
from pipeline_lib.scoring.decode import shared_workers, workers_for
from pipeline_lib.scoring.prefetch import ahead, growing
from pipeline_lib.scoring.prompts import features
from pipeline_lib.scoring.questions import questions

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
METADATA_KEY = b"pipeline.scorer"
READ_ROWS = 64
LARGE_PIXELS = 4_000_000

_Image = tuple[str, bytes, int]
"""image_uid, encoded bytes, pixels."""
_Prepared = tuple[str, "list[Tensor] | str"]

# Large images are prepared one at a time, as in ingest: its `max_pixels` bounds one image, not one per worker.
_one_large = Lock()


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
    precision: engine.Precision = "auto",
    decode_workers: int | None = None,
) -> dict[str, Dataset]:
    """Score all pairs of an ingest dataset; finished scorers are returned at once, started ones continued.

    Args:
        store: root of the dataset store.
        scorers: names of SCORERS.
        ingested: dataset of the stage "ingest" (tables "pairs" and "images").
        mirror: where weights come from.
        progress: called with (shards done, shards in all).
        device, precision: see `engine.runtime`.
        decode_workers: see `decode.workers_for`.

    Returns:
        Scorer name -> dataset. Scorers that look at the image alone have one row per image and a null prompt_id.
    """
    work = open_work(store, scorers, ingested, mirror, device, precision)
    datasets = {item.scorer: done for item in work if (done := item.writer.finished()) is not None}
    missing = [item for item in work if item.scorer not in datasets]
    if missing:
        loaded = engine.load_scorers([item.scorer for item in missing], mirror, device, precision)
        total = len(ingested.tables("images"))
        shards: dict[str, list[Shard]] = {item.scorer: [] for item in missing}
        for index in range(total):
            for name, written in score_shard(missing, loaded, ingested, index, decode_workers).items():
                shards[name] += written
            if progress is not None:
                progress(index + 1, total)
        datasets |= {item.scorer: item.writer.commit(shards[item.scorer]) for item in missing}
    return {item.scorer: datasets[item.scorer] for item in work}


def open_work(
    store: str,
    scorers: Sequence[str],
    ingested: Dataset,
    mirror: str = HUB,
    device: str = "auto",
    precision: engine.Precision = "auto",
) -> list[Work]:
    """The datasets that hold these scorers' scores of `ingested`, each once. Finds and hashes weights, loads none.

    Raises:
        SourceError: `ingested` has no pairs.
    """
    require_some_pairs(ingested)
    questions = engine.identities(dict.fromkeys(scorers), mirror, device, precision)
    return [
        Work(name, identity, writer(store, f"scores-{name}", VERSION, identity, [ingested], modules=[__name__]))
        for name, identity in questions.items()
    ]


def score_shard(
    work: Sequence[Work],
    loaded: Sequence[Scorer],
    ingested: Dataset,
    index: int,
    decode_workers: int | None = None,
) -> dict[str, list[Shard]]:
    """Score the images of image shard `index` with every scorer whose shard is not there yet.

    Args:
        work: datasets to write.
        loaded: the scorers of `work`, in any order; others are not run.
        index: position in `ingested.tables("images")`.
        decode_workers: processes that decode, shared by all calls in this process; see `decode.workers_for`.

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
    shard = ingested.tables("images")[index]
    results = _score_images([by_name[item.scorer] for item in todo], ingested, shard, decode_workers)
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


def _score_images(
    scorers: Sequence[Scorer], ingested: Dataset, shard: Shard, decode_workers: int | None
) -> dict[str, _Result]:
    """Scorer name -> rows for the images of one shard, in the shard's order, prompts of an image by id."""
    towers = engine.distinct_towers(scorers)
    results = {scorer.name: _Result() for scorer in scorers}
    sizes = pl.from_arrow(ingested.read(shard, ["image_uid", "width", "height"]))
    assert isinstance(sizes, pl.DataFrame)
    pixels = int(sizes.select((pl.col("width") * pl.col("height")).sum()).item())
    prepare, threads = _preparation(towers, workers_for(pixels, decode_workers))
    at_once = growing(lambda: engine.rows_at_once(scorers))
    batches = ahead(_images(ingested, shard), prepare, at_once, threads)
    with closing(batches):  # from here on images are decoded, while prompts are encoded
        asked = questions(ingested)
        wanted = asked.of(sizes.select("image_uid"))
        positions = sorted({position for found in wanted.values() for position in found})
        row = {position: index for index, position in enumerate(positions)}
        text = features(scorers, asked, positions)
        by_pair: list[tuple[str, str | None]] = []
        by_image: list[tuple[str, str | None]] = []
        values: list[dict[str, Tensor]] = []
        for batch in batches:
            readable: list[list[Tensor]] = []
            pairs: list[tuple[int, int]] = []
            for uid, prepared in batch:
                if isinstance(prepared, str):
                    for result in results.values():
                        result.reject(uid, "unreadable_image", prepared)
                    continue
                found = wanted.get(uid, [])
                pairs += [(len(readable), row[position]) for position in found]
                by_pair += [(uid, asked.prompt_ids[position]) for position in found]
                by_image.append((uid, None))
                readable.append(prepared)
            if readable:
                values.append(engine.score_batch(scorers, readable, pairs, text))
    scores = engine.gather(scorers, values)
    for scorer in scorers:
        _collect(results[scorer.name], by_pair if scorer.needs_prompt else by_image, scores[scorer.name])
    return results


def _preparation(towers: Sequence[ImageTower], workers: int) -> tuple[Callable[[_Image], _Prepared], int]:
    """How one image of a shard becomes pixels for each tower or what is wrong with it, and in how many threads."""
    recipes = [tower.preprocess for tower in towers]
    decode = shared_workers(workers).prepare if workers else decode_worker.prepare

    def prepare(image: _Image) -> _Prepared:
        uid, content, pixels = image
        with _one_large if pixels > LARGE_PIXELS else nullcontext():
            prepared = decode(content, recipes)
        return uid, prepared if isinstance(prepared, str) else engine.tensors(prepared)

    # Twice as many threads as processes: while one takes an answer, another has handed over the next image.
    return prepare, 2 * workers or engine.decode_threads()


def _collect(result: _Result, keys: Sequence[tuple[str, str | None]], values: np.ndarray) -> None:
    for (uid, prompt_id), value in zip(keys, values.tolist(), strict=True):
        if math.isfinite(value):
            result.scores.append({"image_uid": uid, "prompt_id": prompt_id, "score": value})
        else:
            where = uid if prompt_id is None else f"{uid} for prompt {prompt_id}"
            result.reject(where, "non_finite_score", str(value))


def _images(ingested: Dataset, shard: Shard) -> Iterator[_Image]:
    """The images of one shard, a batch in memory at a time."""
    columns = ["image_uid", "bytes", "width", "height"]
    with ingested.open(shard.path) as file:
        for batch in pq.ParquetFile(file).iter_batches(READ_ROWS, columns=columns):
            for row in batch.to_pylist():
                yield row["image_uid"], row["bytes"], row["width"] * row["height"]
