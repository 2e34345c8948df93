"""The stage's steps over units; see the package's docstring for the design."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import polars as pl
import pyarrow as pa

from pipeline_lib.core import schemas
from pipeline_lib.core.config import IngestConfig, require
from pipeline_lib.core.errors import SourceError, StoreError, UnreadableFileError
from pipeline_lib.core.identity import identity
from pipeline_lib.core.store import Dataset, DatasetWriter, writer
from pipeline_lib.data.ingest import images, rows
from pipeline_lib.data.ingest.checks import require_pairs, require_sound_rows
from pipeline_lib.data.ingest.leakage import leakage
from pipeline_lib.data.ingest.occurrences import CONTRADICTING, contradicting, first_occurrences
from pipeline_lib.data.ingest.samples import samples_page
from pipeline_lib.data.ingest.settle import settle
from pipeline_lib.data.ingest.units import LISTING_THREADS, Unit, image_batches, plain_columns, units_of
from pipeline_lib.data.ingest.work import OCCURRENCES, SEEN, note_images, noted_images, parsed, part, read_work, short
from pipeline_lib.data.sources import Source, open_source
from pipeline_lib.data.sources.splits import split_of

VERSION = 2
Progress = Callable[[int, int], None]
_OVERTAKEN = (StoreError, FileNotFoundError)
_Occurrence = tuple[int, int, bytes | None]
"""(row in the unit, side, encoded image)."""
IMAGES_PER_TASK = 8


@dataclass(frozen=True)
class Job:
    """An ingest in progress, as plain data that can go to any process."""

    writer: DatasetWriter
    source: Source
    config: IngestConfig


def ingest(store: str, config: IngestConfig, progress: Progress | None = None) -> Dataset:
    """Run the whole stage in this process; `progress` gets source rows.

    Raises:
        SourceError, HubError: the source cannot be listed or read, or is not pairs with images.
        StoreError: the store cannot be written.
    """
    job = start(store, config)
    if done := job.writer.finished():
        return done
    try:
        units = plan(job)
        total = sum(unit.rows for unit in units)
        ready = 0
        for unit in units:
            ingest_images(job, unit)
            ready += unit.rows
            if progress:
                progress(ready, total)
        return finish(job, units)
    except _OVERTAKEN:
        if done := _overtaken(job):
            return done
        raise


def start(store: str, config: IngestConfig) -> Job:
    """List and pin the source, and name the dataset that answers the question."""
    require(config.limit is None or config.limit > 0, f"limit is {config.limit}.", "Give a positive limit, or None.")
    source = open_source(config)
    if config.limit is not None:  # a look at the first rows; measuring leakage reads every file of the other splits
        source = replace(source, others={})
    question = {**asdict(config), **source.identity()}
    key = identity(question, IngestConfig)
    w = writer(store, "ingest", VERSION, question, identity=key, modules=[__name__])
    return Job(w, source, replace(config, split=source.split))


def plan(job: Job) -> list[Unit]:
    """Step 1: cut the source into units; check rows but for their images; find first occurrences."""
    units = list(units_of(job.source, job.config.limit))
    if not units:
        raise SourceError(f"{job.source.url} holds no rows in split {job.source.split}.", "Check the source.")
    w = job.writer
    planned = w.existing(OCCURRENCES) is not None
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        hashed = list(pool.map(lambda unit: _plan_unit(job, unit, hashes=not planned), units))
    if not planned:
        require_sound_rows(w, job.source, units)
        w.write_table(OCCURRENCES, first_occurrences(hashed))
    return units


def ingest_images(job: Job, unit: Unit) -> None:
    """Step 2: store the images that occur first in this unit and decode; note what every row of it shows."""
    try:
        _store_images(job, unit)
    except _OVERTAKEN:
        if not _overtaken(job):
            raise


def _store_images(job: Job, unit: Unit) -> None:
    w = job.writer
    images_path, seen_path = f"images/{part(unit.index)}", f"work/seen-{part(unit.index)}"
    if noted_images(w, unit.index):  # written after seen_path
        return
    first = read_work(w, OCCURRENCES, ["duplicate", "first_0", "first_1"], unit=unit.index)
    rows_read = read_work(w, parsed(unit.index), ["image_0", "image_1", "reason"])
    wanted = (rows_read["reason"].is_null() & ~first["duplicate"]).to_list()
    uids = rows_read["image_0"].to_list(), rows_read["image_1"].to_list()
    firsts = first["first_0"].to_list(), first["first_1"].to_list()
    seen: dict[str, list[object]] = {name: [None] * len(rows_read) for name in SEEN.names}
    chunks = [schemas.IMAGES.empty_table()]

    def look(occurrences: Sequence[_Occurrence]) -> list[tuple[_Occurrence, str, images.Checked | None]]:
        limits = job.config.max_pixels, job.config.max_bytes
        return [
            (
                shown,
                images.sha256(shown[2] or b""),
                images.check(shown[2], *limits) if firsts[shown[1]][shown[0]] else None,
            )
            for shown in occurrences
        ]

    read = 0
    try:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for start_row, batch in image_batches(unit) if any(wanted) else ():
                found: dict[str, list[object]] = {name: [] for name in schemas.IMAGES.names}
                shown = [
                    (start_row + i, side, value.as_py())
                    for side in (0, 1)
                    for i, value in enumerate(batch.column(side))
                    if wanted[start_row + i]
                ]
                tasks = [shown[i : i + IMAGES_PER_TASK] for i in range(0, len(shown), IMAGES_PER_TASK)]
                for (row, side, content), sha, checked in itertools.chain.from_iterable(pool.map(look, tasks)):
                    seen[f"sha_{side}"][row] = short(sha)
                    if checked is None:
                        continue
                    seen[f"reason_{side}"][row] = checked.reason
                    seen[f"detail_{side}"][row] = checked.detail
                    if checked.reason is None:
                        values = (uids[side][row], content, checked.width, checked.height, sha)
                        for name, value in zip(schemas.IMAGES.names, values, strict=True):
                            found[name].append(value)
                chunks.append(pa.table(found, schema=schemas.IMAGES))
                read = start_row + len(batch)
    except UnreadableFileError as error:
        seen["unread"][read:] = [error.problem] * (len(rows_read) - read)
    table = pa.concat_tables(chunks)
    if w.existing(seen_path) is None:
        w.write_table(seen_path, pa.table(seen, schema=SEEN))
    note_images(w, unit.index, w.write_table(images_path, table, {"images": len(table)}))


def finish(job: Job, units: list[Unit]) -> Dataset:
    """Step 3: settle what only the bytes could tell, write pairs, quarantine, leakage and samples; commit."""
    w = job.writer
    try:
        shards = settle(w, job.config, units)
        pairs = [shard for shard in shards if shard.path.startswith("pairs/")]
        require_pairs(w, job.source, sum((Counter(shard.counts) for shard in shards), Counter()))
        own = () if job.config.limit else job.source.files
        shards += leakage(w, job.source, pairs, own, job.config.split)
        shards.append(samples_page(w, job.config.split, shards))
        disputed = contradicting(w, pairs)
        dataset = w.commit(shards, {CONTRADICTING: disputed} if disputed else {})
    except _OVERTAKEN:
        if done := _overtaken(job):
            return done
        raise
    w.discard("work")
    return dataset


def _overtaken(job: Job) -> Dataset | None:
    """The dataset if another run of the same question has finished it meanwhile, and removed what this one reads."""
    if done := job.writer.finished():
        job.writer.discard("work")
    return done


def _plan_unit(job: Job, unit: Unit, hashes: bool) -> tuple[int, pl.DataFrame]:
    """Write the unit's checked rows unless they are there; (unit, hashes of its pair ids and uids with `sound`, and
    `anonymous` where no user is named)."""
    w, path = job.writer, parsed(unit.index)
    if w.existing(path) is None:
        splits = [job.config.split, split_of(unit.file.name) or job.config.split]
        try:
            table = rows.parse(plain_columns(unit), unit.first_row, unit.file.name, job.config.models, splits)
        except UnreadableFileError as error:
            table = rows.unreadable(unit.first_row, error.problem)
        w.write_table(path, table)
    if not hashes:
        return unit.index, pl.DataFrame()
    frame = read_work(w, path, ["pair_id", "image_0", "image_1", "reason", "user_id"])
    hashed = frame.select(
        pl.col("pair_id", "image_0", "image_1").hash(),
        pl.col("reason").is_null().alias("sound"),
        (pl.col("user_id").fill_null("") == "").alias("anonymous"),
    )
    return unit.index, hashed
