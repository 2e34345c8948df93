"""Step 3 of ingest: which image each uid means, and so which rows stand."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from pipeline_lib.core import schemas
from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.digest import text_id
from pipeline_lib.core.errors import StoreError
from pipeline_lib.core.store import DatasetWriter, Shard
from pipeline_lib.data.ingest import images
from pipeline_lib.data.ingest.reasons import Reason
from pipeline_lib.data.ingest.rows import NOT_CHOSEN, OTHER_SPLIT
from pipeline_lib.data.ingest.units import Unit, image_batches
from pipeline_lib.data.ingest.work import OCCURRENCES, noted_images, parsed, part, read_work, short

LEFT_OUT = (NOT_CHOSEN, OTHER_SPLIT)
REASON = pl.Enum([*LEFT_OUT, *(reason.value for reason in Reason)])


def settle(w: DatasetWriter, config: IngestConfig, units: Sequence[Unit]) -> list[Shard]:
    """All shards of the dataset, after writing pairs, quarantine and rescued images.

    The index over all uids holds hashes (under 30 bytes per image), not ids or bytes.
    """
    index = pl.concat([_index(_occurrences(w, unit)) for unit in units])
    shards = [_images(w, unit) for unit in units]
    if index["good"].has_nulls():
        for unit in units:
            if shard := _rescue(w, config, unit, index):
                shards.append(shard)
                index = _with_rescued(index, w, shard)
    for unit in units:
        shards.extend(_write_unit(w, config, unit, index))
    return shards


def _images(w: DatasetWriter, unit: Unit) -> Shard:
    if shard := noted_images(w, unit.index):
        return shard
    raise StoreError(
        f"{w.uri}/images/{part(unit.index)} is missing or unreadable.", "Run ingest again; it writes what is missing."
    )


def _occurrences(w: DatasetWriter, unit: Unit) -> pl.DataFrame:
    """What each row shows: hashes of its uids (`uid_0`) and bytes (`sha_0`), null sha for rows rejected before."""
    first = read_work(w, OCCURRENCES, ["duplicate", "vote", "first_0", "first_1"], unit=unit.index)
    seen = read_work(
        w,
        f"work/seen-{part(unit.index)}",
        ["sha_0", "sha_1", "reason_0", "reason_1", "detail_0", "detail_1", "unread"],
    )
    uids = read_work(w, parsed(unit.index), ["image_0", "image_1"])
    hashes = uids.select(pl.col("image_0").hash().alias("uid_0"), pl.col("image_1").hash().alias("uid_1"))
    return pl.concat([hashes, first, seen], how="horizontal").with_columns(pl.col("reason_0", "reason_1").cast(REASON))


def _index(occurrences: pl.DataFrame) -> pl.DataFrame:
    """Per uid that occurs first here: `good`, the content that was stored, or `bad` with the reason it was not."""
    sides = [
        occurrences.filter(f"first_{side}").select(
            pl.col(f"uid_{side}").alias("uid"),
            pl.when(pl.col(f"reason_{side}").is_null()).then(f"sha_{side}").alias("good"),
            pl.when(pl.col(f"reason_{side}").is_not_null()).then(f"sha_{side}").alias("bad"),
            pl.col(f"reason_{side}").alias("reason"),
        )
        for side in (0, 1)
    ]
    return pl.concat(sides)


def _rescue(w: DatasetWriter, config: IngestConfig, unit: Unit, index: pl.DataFrame) -> Shard | None:
    """Store images of this unit whose uid occurred first with broken bytes and shows other, sound bytes here."""
    path = f"images/rescued-{part(unit.index)}"
    if stored := w.existing(path):
        return stored
    lost = index.filter(pl.col("good").is_null())
    occurrences = _occurrences(w, unit).with_row_index("at")
    wanted: dict[tuple[int, int], int] = {}
    for side in (0, 1):
        chances = occurrences.filter(pl.col(f"sha_{side}").is_not_null()).join(
            lost, left_on=f"uid_{side}", right_on="uid", how="inner"
        )
        chances = chances.filter(pl.col(f"sha_{side}").ne_missing(pl.col("bad")))
        wanted |= {(at, side): uid for at, uid in chances.select("at", f"uid_{side}").iter_rows()}
    if not wanted:
        return None
    uids = read_work(w, parsed(unit.index), ["image_0", "image_1"])
    found: dict[int, dict[str, object]] = {}
    last = max(at for at, _ in wanted)  # what follows may be unreadable
    for start, batch in image_batches(unit):
        for i in range(len(batch)):
            for side in (0, 1):
                uid = wanted.get((start + i, side))
                if uid is None or uid in found:
                    continue
                content = batch.column(side)[i].as_py()
                checked = images.check(content, config.max_pixels, config.max_bytes)
                if checked.reason is None:
                    values = (uids[start + i, side], content, checked.width, checked.height, images.sha256(content))
                    found[uid] = dict(zip(schemas.IMAGES.names, values, strict=True))
        if start + len(batch) > last:
            break
    if not found:
        return None
    return w.write_table(
        path, pa.Table.from_pylist(list(found.values()), schema=schemas.IMAGES), {"images": len(found)}
    )


def _with_rescued(index: pl.DataFrame, w: DatasetWriter, shard: Shard) -> pl.DataFrame:
    rescued = read_work(w, shard.path, ["image_uid", "sha256"])
    good = pl.Series("rescued", [short(sha) for sha in rescued["sha256"]], pl.UInt64)
    known = pl.DataFrame([rescued["image_uid"].hash().alias("uid"), good])
    joined = index.join(known, on="uid", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("good", "rescued").alias("good")).drop("rescued")


def _write_unit(w: DatasetWriter, config: IngestConfig, unit: Unit, index: pl.DataFrame) -> list[Shard]:
    """Pairs and quarantine of one unit."""
    paths = f"pairs/{part(unit.index)}", f"quarantine/{part(unit.index)}"
    if all(existing := [w.existing(path) for path in paths]):
        return [shard for shard in existing if shard]
    frame = _occurrences(w, unit)
    for side in (0, 1):
        verdict = (
            pl.when(pl.col(f"sha_{side}").is_null() | pl.col(f"sha_{side}").eq_missing(pl.col("good")))
            .then(None)
            .when(pl.col(f"sha_{side}") == pl.col("bad"))
            .then("reason")
            .otherwise(pl.lit(Reason.UID_CONFLICT.value, REASON))
        )
        frame = frame.join(index, left_on=f"uid_{side}", right_on="uid", how="left", maintain_order="left")
        frame = frame.with_columns(verdict.alias(f"verdict_{side}")).drop("good", "bad", "reason")
    rows = read_work(
        w,
        parsed(unit.index),
        ["row", *(name for name in schemas.PAIRS.names if name != "split"), "reason", "detail"],
    )
    frame = pl.concat([rows, frame.drop("reason_0", "reason_1")], how="horizontal").with_columns(
        pl.lit(config.split).alias("split"),
        _ids_of_votes(rows["pair_id"], frame["vote"]),
        pl.coalesce(
            pl.col("reason").cast(REASON),
            pl.when("duplicate").then(pl.lit(Reason.DUPLICATE_ROW.value, REASON)),
            pl.when(pl.col("unread").is_not_null()).then(pl.lit(Reason.FILE_UNREADABLE.value, REASON)),
            "verdict_0",
            "verdict_1",
        ).alias("why"),
    )
    kept = frame.filter(pl.col("why").is_null())
    lost = frame.filter(pl.col("why").is_not_null() & ~pl.col("why").is_in(LEFT_OUT)).select(
        pl.format("{}#{}", pl.lit(unit.file.name), "row").alias("locator"),
        pl.col("why").cast(pl.String).alias("reason"),
        pl.when(pl.col("reason").is_not_null())
        .then("detail")
        .when(pl.col("duplicate"))
        .then(pl.lit(""))
        .when(pl.col("unread").is_not_null())
        .then("unread")
        .when(pl.col("verdict_0").is_not_null())
        .then(_about("image_0", "detail_0"))
        .otherwise(_about("image_1", "detail_1"))
        .alias("detail"),
    )
    elsewhere = int((frame["why"] == OTHER_SPLIT).sum())
    left_out = {OTHER_SPLIT: elsewhere} if elsewhere else {}
    if config.models is not None:
        left_out[NOT_CHOSEN] = len(frame) - len(kept) - len(lost) - elsewhere
    counts = {
        "rows": len(frame),
        "pairs": len(kept),
        "ties": int((kept["label_0"] == 0.5).sum()),
        "unlabelled": kept["label_0"].null_count(),
        **left_out,
    }
    rejected = {f"rejected:{reason}": count for reason, count in lost["reason"].value_counts(sort=True).iter_rows()}
    tables = {
        paths[0]: (kept.to_arrow().select(schemas.PAIRS.names), schemas.PAIRS, counts),
        paths[1]: (lost.to_arrow(), schemas.QUARANTINE, rejected),
    }
    return [
        w.existing(path) or w.write_table(path, schemas.conform(table, schema, path), numbers)
        for path, (table, schema, numbers) in tables.items()
    ]


def _ids_of_votes(pair_ids: pl.Series, votes: pl.Series) -> pl.Series:
    """The pair ids, each further vote for one pair with an id of its own."""
    again = {i: text_id(pair_ids[i], "vote", str(votes[i])) for i in (votes > 0).arg_true()}
    return (
        pl.Series("pair_id", [again.get(i, value) for i, value in enumerate(pair_ids)], pl.String)
        if again
        else pair_ids
    )


def _about(uid: str, detail: str) -> pl.Expr:
    """`<uid>: <detail>`: which side, and what was wrong with it where this row is where that was found."""
    return pl.concat_str(pl.col(uid), pl.col(detail), separator=": ", ignore_nulls=True)
