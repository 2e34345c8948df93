"""Votes of several people on one pair, contradictions, partition columns, a column `split`, sources without pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import SourceError
from pipeline_lib.core.schemas import PAIRS
from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.data.ingest import ingest, units
from pipeline_lib.data.ingest.checks import require_some_pairs
from pipeline_lib.data.same_images import other_images
from tasks.ingest import summary
from tests.pipeline_lib.source_files import PICKAPIC_V2, image_bytes, row, write_file, write_source


def run(tmp_path: Path, *files: list[dict[str, Any]], **settings: Any) -> Dataset:
    source = write_source(tmp_path / "source", *files)
    return ingest(str(tmp_path / "store"), IngestConfig(source=str(source), **settings))


def nobody(winner: float, i: int = 0, **changes: Any) -> dict[str, Any]:
    return row(i, user_id=None, label_0=winner, label_1=1 - winner, **changes)


def write_without(path: Path, names: list[str], rows: list[dict[str, Any]]) -> None:
    """A file without some columns, which its folders say."""
    pq.write_table(pq.read_table(write_file(path, rows), partitioning=None).drop_columns(names), path)


def test_votes_without_a_user_are_all_kept_each_with_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 1)  # votes that lie in several units
    dataset = run(tmp_path, [nobody(1.0)] * 5 + [nobody(0.0)], [nobody(1.0), nobody(0.0), nobody(0.5)])
    pairs = dataset.scan("pairs").collect()
    assert sorted(pairs["label_0"]) == [0.0, 0.0, 0.5, *[1.0] * 6]
    assert pairs["pair_id"].n_unique() == 9
    assert "rejected:duplicate-row" not in dataset.counts and dataset.counts["contradicting"] == 1
    assert dataset.counts["images"] == 2
    alone = run(tmp_path / "alone", [nobody(1.0)]).scan("pairs").collect()
    assert alone["pair_id"][0] == pairs["pair_id"][0], "the first vote has the id that it has alone"


@pytest.mark.parametrize("user", [None, "", float("nan")])
def test_what_names_nobody_is_no_user(tmp_path: Path, user: Any) -> None:
    kind = pa.float64() if isinstance(user, float) else pa.string()
    schema = pa.schema([field.with_type(kind) if field.name == "user_id" else field for field in PICKAPIC_V2])
    write_file(tmp_path / "source/train-0.parquet", [row(0, user_id=user)] * 3, schema=schema)
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source")))
    assert dataset.counts["pairs"] == 3 and dataset.scan("pairs").collect()["user_id"].unique().to_list() in (
        [None],
        [""],
    )


def test_a_user_who_says_the_same_again_is_one_vote(tmp_path: Path) -> None:
    dataset = run(tmp_path, [row(0), row(0), row(0, user_id=7), nobody(1.0)])
    assert dataset.counts["pairs"] == 3 and dataset.counts["rejected:duplicate-row"] == 1
    assert "contradicting" not in dataset.counts


def test_contradictions_are_counted_by_comparison_whichever_side_and_shown(tmp_path: Path) -> None:
    def seen(i: int, uid_0: str, uid_1: str, winner: float) -> dict[str, Any]:
        uids = {"image_0_uid": uid_0, "image_1_uid": uid_1, "jpg_0": image_bytes(uid_0), "jpg_1": image_bytes(uid_1)}
        return row(i, caption="one", label_0=winner, label_1=1 - winner, **uids)

    rows = [
        seen(0, "a", "b", 1.0), seen(1, "b", "a", 1.0),  # a and b both won
        seen(2, "a", "c", 1.0), seen(3, "c", "a", 0.0),  # a won twice
        seen(4, "b", "c", 0.5), seen(5, "b", "c", 1.0),  # a tie contradicts nothing
        {**seen(6, "a", "c", 0.0), "caption": "another"},
    ]  # fmt: skip
    dataset = run(tmp_path, rows)
    assert dataset.counts["contradicting"] == 1
    assert "1 comparisons were decided both ways" in summary(dataset)
    assert "both ways" not in summary(run(tmp_path / "calm", rows[2:]))


def test_partition_columns_are_columns(tmp_path: Path) -> None:
    names = ["model_0", "user_id", "label_1", "caption"]
    for caption, user in (("a%20red%20circle", 3), ("caf%C3%A9", 4)):
        folder = tmp_path / f"source/model_0=sd 1.5/caption={caption}/user_id={user}/label_1=0"
        write_without(folder / "train.parquet", names, [row(user)])
    null = tmp_path / "source/model_0=__HIVE_DEFAULT_PARTITION__/caption=x/user_id=5/year=2024/label_1=0.0"
    write_without(null / "train.parquet", names, [row(5)])
    pairs = ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source"))).scan("pairs").collect()
    assert set(pairs.select("prompt", "model_0", "user_id", "label_0").iter_rows()) == {
        ("a red circle", "sd 1.5", "3", 1.0), ("café", "sd 1.5", "4", 1.0), ("x", None, "5", 1.0),
    }  # fmt: skip


def test_a_column_of_the_file_wins_over_its_folder(tmp_path: Path) -> None:
    write_file(tmp_path / "source/user_id=9/train.parquet", [row(1)])
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source")))
    assert dataset.scan("pairs").collect()["user_id"].to_list() == ["1"]


def with_splits(path: Path, *splits: str | None, **changes: Any) -> Path:
    rows = [{**row(i, **changes), "split": split} for i, split in enumerate(splits)]
    return write_file(path, rows, schema=pa.schema([*PICKAPIC_V2, pa.field("split", pa.string())]))


def test_a_column_split_says_which_rows_are_read(tmp_path: Path) -> None:
    with_splits(tmp_path / "source/a.parquet", "Train", "test", "training", "valid", "train", "test")
    for split, wanted in (("train", [0, 2, 4]), ("validation", [3]), ("TEST", [1, 5])):
        dataset = ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source"), split=split))
        assert dataset.scan("pairs").collect()["image_0"].to_list() == [f"{i}-a" for i in wanted]
        assert dataset.counts["other-split"] == 6 - len(wanted) and dataset.counts["rows"] == 6
        assert dataset.counts["images"] == 2 * len(wanted)
        assert "other-split" in summary(dataset)
    train = ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source")))
    leaked = {name: n for name, n in train.counts.items() if name.startswith("leak")}
    assert leaked == {"leaked-prompts:test": 2, "leaked-pairs:test": 2, "leaked-prompts:validation": 1,
                      "leaked-pairs:validation": 1}  # fmt: skip


def test_the_column_may_be_in_any_case(tmp_path: Path) -> None:
    path = with_splits(tmp_path / "source/a.parquet", "TRAIN", "Test")
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.rename_columns([name.replace("split", "Split") for name in table.column_names]), path)
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source")))
    assert dataset.scan("pairs").collect()["image_0"].to_list() == ["0-a"]


def test_a_column_split_that_says_nothing_or_only_this_one_changes_nothing(tmp_path: Path) -> None:
    plain = write_file(tmp_path / "plain/train.parquet", [row(i) for i in range(3)]).parent
    wanted = ingest(str(tmp_path / "store"), IngestConfig(source=str(plain)))
    for name, splits in (("null", (None,) * 3), ("same", ("train",) * 3), ("empty", (" ",) * 3)):
        folder = with_splits(tmp_path / name / "train.parquet", *splits).parent
        assert ingest(str(tmp_path / "store"), IngestConfig(source=str(folder))).digest == wanted.digest


def test_a_file_of_the_split_that_stands_in_is_read_by_its_column_too(tmp_path: Path) -> None:
    with_splits(tmp_path / "source/dev.parquet", "dev", "dev", "test")
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source"), split="validation"))
    assert dataset.counts["pairs"] == 2 and dataset.counts["other-split"] == 1


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        (("test", "dev"), "no rows of split 'train', by its column 'split'.*\n.*split=dev or test"),
        (("0", "1"), "split=0 or 1"),
        (("train", None, "test"), "1 of 3 rows say no split in the column 'split', and others do"),
    ],
)
def test_a_column_split_that_does_not_help_is_an_error(tmp_path: Path, splits: tuple[Any, ...], says: str) -> None:
    with_splits(tmp_path / "source/a.parquet", *splits)
    with pytest.raises(SourceError, match=says):
        ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source")))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([row(0, caption=""), row(1, label_0=0.7, label_1=0.3)], "labels-inconsistent 1, prompt-empty 1"),
        ([row(0, image_1_uid="0-a")] * 2, "same-image 2"),
        ([row(0, jpg_0=b"x"), row(1, jpg_1=None)], "image-missing 1, image-undecodable 1"),
    ],
)
def test_a_source_without_a_pair_is_an_error(tmp_path: Path, rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(SourceError, match=f"None of the .*rows of .* is a pair: {says}"):
        run(tmp_path, rows)
    assert not list((tmp_path / "store").glob("ingest/*/manifest.json"))


def test_a_filter_that_leaves_no_pair_is_noticed_before_anything_is_done_with_it(tmp_path: Path) -> None:
    empty = run(tmp_path, [row(0), row(1)], models=("another",))
    assert empty.counts["not-chosen"] == 2
    with pytest.raises(SourceError, match="has no pairs: none of the 2 rows"):
        require_some_pairs(empty)
    require_some_pairs(run(tmp_path, [row(0), row(1)]))


def test_pairs_of_different_pictures_do_not_go_together(tmp_path: Path) -> None:
    def made(name: str, *rows: dict[str, Any]) -> Dataset:
        return run(tmp_path / name, list(rows))

    ours, more = made("a", row(0), row(1)), made("b", row(0), row(1), row(2))
    swapped = made("c", row(0, jpg_0=image_bytes("0-b"), jpg_1=image_bytes("0-a")), row(1))
    foreign = made("d", row(7))
    assert other_images(ours, more) == "" == other_images(ours, ours)
    assert "2 of 4 image uids mean other pictures" in other_images(ours, swapped)
    assert "no image in common" in other_images(foreign, ours)

    def derived(source: Dataset, store: str) -> Dataset:
        w = writer(store, "scores-x", 1, {}, [source])
        return w.commit([w.write_table("part-00000.parquet", pa.table({"x": [1]}))])

    assert other_images(ours, derived(ours, str(tmp_path / "elsewhere"))) == ""
    assert "not there any more" in other_images(ours, derived(swapped, str(tmp_path / "elsewhere")))
    assert "mean other pictures" in other_images(derived(swapped, str(tmp_path / "c/store")), ours)
    unknown = writer(str(tmp_path), "scores-x", 1, {})
    assert other_images(ours, unknown.commit([unknown.write_table("p.parquet", pa.table({"x": [1]}))])) == ""


def test_pairs_have_the_schema(tmp_path: Path) -> None:
    dataset = run(tmp_path, [nobody(1.0), nobody(1.0)])
    (shard,) = dataset.tables("pairs")
    assert pq.read_schema(f"{dataset.uri}/{shard.path}").remove_metadata() == PAIRS
    assert dataset.scan("pairs").select(pl.col("pair_id").str.len_chars()).collect()["pair_id"].to_list() == [16, 16]
