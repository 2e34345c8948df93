"""The dataset store: keys, atomic shards, manifests, resumption, verification, concurrency."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_lib.core.errors import DatasetCorruptError, DatasetUnfinishedError, StoreError
from pipeline_lib.core.store import Dataset, DatasetWriter, absolute, open_dataset, verify, writer

TABLE = pa.table({"x": [1, 2, 3]})


@dataclass(frozen=True)
class Config:
    a: int
    b: str = "b"


def small(store: str, stage: str = "stage", config: object = None, inputs: tuple[Dataset, ...] = ()) -> Dataset:
    w = writer(store, stage, 1, config or {}, inputs)
    return w.commit([w.write_table("part-00000.parquet", TABLE, {"kept": 3})])


def test_key_is_the_question(tmp_path: Path) -> None:
    def key(stage: str = "s", version: int = 1, config: object = None, inputs: tuple[Dataset, ...] = ()) -> str:
        return writer(str(tmp_path), stage, version, config or {"a": 1, "b": "b"}, inputs).key

    base = key()
    assert key(config={"b": "b", "a": 1}) == base
    assert key(config=Config(a=1)) == base
    one = small(str(tmp_path), config={"n": 1})
    different = [
        key(stage="t"),
        key(version=2),
        key(config={"a": 2, "b": "b"}),
        key(inputs=(one,)),
        key(inputs=(one, one)),
    ]
    assert len({base, *different}) == 6


def test_key_does_not_depend_on_where_the_store_is(tmp_path: Path) -> None:
    here, there = (small(str(tmp_path / place), stage="in") for place in ("here", "there"))
    keys = {
        writer(str(tmp_path / place), "s", 1, {}, [source]).key for place, source in [("here", here), ("there", there)]
    }
    assert len(keys) == 1
    assert here.digest == there.digest


def test_key_is_pinned(tmp_path: Path) -> None:
    """A changed key scheme would orphan every dataset in existence: this must be a decision, not an accident."""
    assert writer(str(tmp_path), "stage", 1, {"a": [1, 2.5, None, "é"]}).key == "6789a326a5cee812"


def test_commit_and_open(tmp_path: Path) -> None:
    source = small(str(tmp_path), stage="in")
    w = writer(str(tmp_path), "out", 3, Config(a=1), [source])
    shards = [w.write_table(f"t/part-0000{i}.parquet", TABLE.slice(i), {"kept": 3 - i, "odd": 1}) for i in (1, 0)]
    shards.append(w.write_bytes("report.html", b"<p>"))
    dataset = w.commit(shards, {"read": 9})
    assert dataset == open_dataset(dataset.uri) == w.finished()
    assert dataset.uri == f"{tmp_path}/out/{w.key}"
    assert dataset.path() == f"out/{w.key}"
    assert dataset.counts == {"read": 9, "kept": 5, "odd": 2}
    assert dataset.config == {"a": 1, "b": "b"}
    assert dataset.inputs == [{"uri": source.path(), "digest": source.digest}]
    assert list(dataset.inputs[0]) == ["digest", "uri"], "the order that reports repeat"
    assert [s.path for s in dataset.shards] == ["report.html", "t/part-00000.parquet", "t/part-00001.parquet"]
    assert [s.rows for s in dataset.tables("t")] == [3, 2]
    assert dataset.tables() == []
    assert dataset.scan("t").collect()["x"].to_list() == [1, 2, 3, 2, 3]
    assert dataset.read(dataset.tables("t")[1])["x"].to_pylist() == [2, 3]
    assert dataset.open("report.html").read() == b"<p>"
    with pytest.raises(StoreError, match="no table 'u'"):
        dataset.scan("u")


def test_digest_is_of_the_content(tmp_path: Path) -> None:
    first = small(str(tmp_path / "1"))
    assert small(str(tmp_path / "2")).digest == first.digest
    w = writer(str(tmp_path / "3"), "stage", 1, {})
    assert w.commit([w.write_table("part-00000.parquet", TABLE.slice(1))]).digest != first.digest


def test_unfinished_dataset_cannot_be_opened(tmp_path: Path) -> None:
    w = writer(str(tmp_path), "stage", 1, {})
    w.write_table("part-00000.parquet", TABLE)
    assert w.finished() is None
    with pytest.raises(DatasetUnfinishedError, match=r"no manifest\.json"):
        open_dataset(w.uri)


def test_existing_shard_is_described_without_rewriting(tmp_path: Path) -> None:
    w = writer(str(tmp_path), "stage", 1, {})
    assert w.existing("part-00000.parquet") is None
    written = w.write_table("part-00000.parquet", TABLE, {"kept": 3})
    again = writer(str(tmp_path), "stage", 1, {})
    assert again.existing("part-00000.parquet") == written
    assert (written.rows, written.counts) == (3, {"kept": 3})
    assert written.bytes == os.path.getsize(f"{w.uri}/part-00000.parquet")


def test_unreadable_table_counts_as_absent(tmp_path: Path) -> None:
    w = writer(str(tmp_path), "stage", 1, {})
    w.write_table("part-00000.parquet", TABLE)
    Path(w.uri, "part-00000.parquet").write_bytes(b"PAR1")
    assert w.existing("part-00000.parquet") is None


def test_no_reader_ever_sees_half_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    w = writer(str(tmp_path), "stage", 1, {})
    write = pq.write_table

    def dies_half_way(table: pa.Table, file: str, **options: object) -> None:
        write(table, file, **options)
        Path(file).write_bytes(Path(file).read_bytes()[:20])
        assert not Path(w.uri, "part-00000.parquet").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", dies_half_way)
    with pytest.raises(KeyboardInterrupt):
        w.write_table("part-00000.parquet", TABLE)
    assert os.listdir(w.uri) == []


def test_leftover_of_a_killed_writer_is_no_shard(tmp_path: Path) -> None:
    w = writer(str(tmp_path), "stage", 1, {})
    shard = w.write_table("part-00000.parquet", TABLE)
    Path(w.uri, ".part-00001.parquet.1234.tmp").write_bytes(b"half")
    assert w.existing("part-00001.parquet") is None
    assert [s.path for s in w.commit([shard]).shards] == ["part-00000.parquet"]


def test_failed_write_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="Cannot write"):
        writer(str(tmp_path / "file"), "stage", 1, {}).write_bytes("x", b"")


def test_verify_names_changed_and_missing_shards(tmp_path: Path) -> None:
    w = writer(str(tmp_path), "stage", 1, {})
    dataset = w.commit([w.write_table(f"part-0000{i}.parquet", TABLE) for i in range(3)])
    verify(dataset)
    path = Path(dataset.uri, "part-00001.parquet")
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    Path(dataset.uri, "part-00002.parquet").unlink()
    with pytest.raises(DatasetCorruptError, match=r"2 of 3.*part-00001\.parquet, part-00002\.parquet"):
        verify(dataset)


def test_concurrent_writers_end_in_one_valid_dataset(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def run(_: int) -> Dataset:
        w = writer(str(tmp_path), "stage", 1, {})
        barrier.wait()
        table = pa.table({"x": list(range(50_000))})
        return w.commit([w.write_table(f"part-0000{i}.parquet", table.slice(i)) for i in range(4)])

    with ThreadPoolExecutor(8) as pool:
        digests = {dataset.digest for dataset in pool.map(run, range(8))}
    dataset = open_dataset(writer(str(tmp_path), "stage", 1, {}).uri)
    assert digests == {dataset.digest}
    verify(dataset)
    assert sorted(os.listdir(dataset.uri)) == ["manifest.json", *(f"part-0000{i}.parquet" for i in range(4))]


def test_folder_of_files_and_local_access(tmp_path: Path) -> None:
    (tmp_path / "model/unet").mkdir(parents=True)
    (tmp_path / "model/unet/weights.bin").write_bytes(b"w" * 3_000_000)
    (tmp_path / "model/base.json").write_text("{}")
    w = writer(str(tmp_path / "store"), "model", 1, {})
    dataset = w.commit(w.write_folder("model", tmp_path / "model"))
    assert [s.path for s in dataset.shards] == ["model/base.json", "model/unet/weights.bin"]
    assert (dataset.local("model") / "unet/weights.bin").read_bytes() == b"w" * 3_000_000
    verify(dataset)


def test_discard_removes_a_folder_and_only_it(tmp_path: Path) -> None:
    w = writer(str(tmp_path), "stage", 1, {})
    w.write_bytes("work/a", b"a")
    w.write_bytes("keep", b"b")
    w.discard("work")
    w.discard("work")
    assert os.listdir(w.uri) == ["keep"]


def test_store_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = small("store")
    monkeypatch.chdir("/")
    assert open_dataset(dataset.uri) == dataset
    assert absolute("s3://bucket/prefix/") == "s3://bucket/prefix"


def test_manifest_is_complete_json(tmp_path: Path) -> None:
    dataset = small(str(tmp_path))
    manifest = json.loads(Path(dataset.uri, "manifest.json").read_text())
    described = {"stage", "key", "config", "inputs", "shards", "counts", "digest", "created"}
    assert set(manifest) == {"manifest_version", *described, "code", "manifest_digest"}


def test_writer_is_plain_data() -> None:
    w = writer("/tmp/somewhere", "stage", 1, {})
    assert w == DatasetWriter(w.uri, w.stage, w.key, w.config, w.inputs)
