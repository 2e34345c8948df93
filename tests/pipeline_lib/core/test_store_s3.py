"""The store and an S3 source against an S3 server on loopback."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from pipeline_lib.core.cache import copy_folder
from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import DatasetCorruptError, SourceError, StoreError
from pipeline_lib.core.garbage import delete, garbage
from pipeline_lib.core.store import Dataset, check, open_dataset, verify, writer
from pipeline_lib.core.store.verification import forget
from pipeline_lib.data.ingest import ingest
from tests.pipeline_lib.source_files import row, write_source


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="pairs")
    s3fs.S3FileSystem.clear_instance_cache()
    yield "s3://pairs"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_splits_of_a_bucket_are_found_by_their_names(tmp_path: Path, bucket: str) -> None:
    source = write_source(tmp_path / "source", [row(0), row(1)])
    fs = s3fs.S3FileSystem()
    for name in ("Train/a::b.PARQUET", "Test/c.parquet", "_tmp/train.parquet", "Train/.d.parquet"):
        fs.put_file(str(source / "train-00000-of-00001.parquet"), f"{bucket}/splits/{name}")
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=f"{bucket}/splits"))
    assert [name for name, _, _ in dataset.config["files"]] == ["Train/a::b.PARQUET"]
    assert dataset.counts["pairs"] == 2 and dataset.counts["leaked-prompts:test"] == 2
    with pytest.raises(SourceError, match="There is nothing at s3://pairs/sorce"):
        ingest(str(tmp_path / "store"), IngestConfig(source=f"{bucket}/sorce"))


def test_ingest_from_and_to_s3_equals_ingest_on_disk(tmp_path: Path, bucket: str) -> None:
    source = write_source(tmp_path / "source", [row(i) for i in range(5)], [row(5), row(6, caption="")])
    fs = s3fs.S3FileSystem()
    fs.put(f"{source}/", f"{bucket}/source/", recursive=True)
    local = ingest(str(tmp_path / "store"), IngestConfig(source=str(source)))
    remote = ingest(f"{bucket}/store", IngestConfig(source=f"{bucket}/source"))
    assert remote.digest == local.digest
    assert remote.counts == local.counts
    assert remote.uri.startswith(f"{bucket}/store/ingest/")
    assert remote.scan("pairs").collect().equals(local.scan("pairs").collect())
    assert ingest(f"{bucket}/store", IngestConfig(source=f"{bucket}/source")) == remote
    verify(remote)
    assert not fs.exists(f"{remote.uri}/work")
    downloaded = remote.local("pairs")
    assert (downloaded / "part-00000.parquet").stat().st_size == remote.tables("pairs")[0].bytes
    fs.pipe(f"{remote.uri}/pairs/part-00000.parquet", b"other")
    fs.rm(f"{remote.uri}/images/part-00001.parquet")
    with pytest.raises(DatasetCorruptError, match=r"2 of 7 .*images/part-00001\.parquet, pairs/part-00000\.parquet"):
        verify(remote)
    shutil.rmtree(downloaded.parent)
    for folder, path in [("pairs", "pairs/part-00000"), ("images", "images/part-00001")]:
        with pytest.raises(DatasetCorruptError, match=rf"1 of 7 files .*names: {path}\.parquet"):
            remote.local(folder)
    shutil.rmtree(downloaded.parent)


def finished(bucket: str) -> Dataset:
    """A dataset of two tables and a model."""
    w = writer(f"{bucket}/changed", "encoded", 1, {})
    tables = [w.write_table(f"latents/part-0000{i}.parquet", pa.table({"x": [i, 1, 2]})) for i in (0, 1)]
    return w.commit([*tables, w.write_bytes("model/base.json", b"{}")])


USES: dict[str, Callable[[Dataset], object]] = {
    "scan": lambda dataset: dataset.scan("latents").collect(),
    "read": lambda dataset: [dataset.read(shard, ["x"]) for shard in dataset.tables("latents")],
    "open": lambda dataset: [dataset.open(shard.path).read() for shard in dataset.shards],
    "local": lambda dataset: dataset.local(),
    "check": check,
}


def flip_a_bit(fs: s3fs.S3FileSystem, first: str, second: str) -> None:
    content = fs.cat_file(first)
    fs.pipe_file(first, bytes([*content[:9], content[9] ^ 1, *content[10:]]))


def cut(fs: s3fs.S3FileSystem, first: str, second: str) -> None:
    fs.pipe_file(first, fs.cat_file(first)[:-1])


def swap(fs: s3fs.S3FileSystem, first: str, second: str) -> None:
    one, other = fs.cat_file(first), fs.cat_file(second)
    fs.pipe_file(first, other)
    fs.pipe_file(second, one)


def edit(fs: s3fs.S3FileSystem, first: str, second: str) -> None:
    manifest = f"{first.partition('/latents/')[0]}/manifest.json"
    fs.pipe_file(manifest, fs.cat_file(manifest).replace(b'"rows": 3', b'"rows": 2'))


def remove(fs: s3fs.S3FileSystem, first: str, second: str) -> None:
    fs.rm_file(first)


CHANGES = (flip_a_bit, cut, remove, swap, edit)
EACH_ONCE = list(zip(CHANGES, USES, strict=True))


@pytest.mark.parametrize(
    "tries",
    [
        pytest.param(EACH_ONCE, id="each-once"),
        pytest.param(list(product(CHANGES, USES)), id="all", marks=pytest.mark.slow),
    ],
)
def test_changed_objects_are_refused_however_they_are_read(
    bucket: str, tries: list[tuple[Callable[[s3fs.S3FileSystem, str, str], None], str]]
) -> None:
    fs = s3fs.S3FileSystem()
    for change, name in tries:
        dataset = finished(bucket)
        USES[name](dataset)
        change(fs, *(f"{dataset.uri}/latents/part-0000{i}.parquet" for i in (0, 1)))
        shutil.rmtree(copy_folder(dataset.digest))  # which is read instead, by what needs files
        with pytest.raises(DatasetCorruptError, match=r"part-00000\.parquet|was edited"):
            USES[name](open_dataset(dataset.uri))
            pytest.fail(f"{name} after {change.__name__}")


def test_what_was_verified_is_not_downloaded_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = finished(bucket)
    forget()
    fetched: list[str] = []
    fetch = s3fs.S3FileSystem._get_file

    async def counted(self: s3fs.S3FileSystem, source: str, *arguments: object, **options: object) -> object:
        fetched.append(source)
        return await fetch(self, source, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_get_file", counted)
    s3fs.S3FileSystem.clear_instance_cache()
    for _ in range(3):
        check(dataset)
        USES["read"](dataset)
    assert len(fetched) == len(dataset.shards), "once per process"
    for _ in range(3):
        USES["local"](dataset)
    assert len(fetched) == 2 * len(dataset.shards), "copied once"
    verify(dataset)
    assert len(fetched) == 3 * len(dataset.shards), "verify reads everything again"
    shutil.rmtree(copy_folder(dataset.digest))


def test_server_that_is_gone_is_a_typed_error(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3fs.core.S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SourceError, match="Could not connect"):
        ingest(str(tmp_path), IngestConfig(source=f"{bucket}/source"))
    w = writer(f"{bucket}/store", "stage", 1, {})
    with pytest.raises(StoreError, match=r"Cannot access .*Could not connect"):
        w.finished()
    with pytest.raises(StoreError, match=r"Cannot write .*Could not connect"):
        w.write_bytes("report", b"x")


def test_garbage_on_s3(bucket: str) -> None:
    finished = writer(f"{bucket}/old", "model", 1, {})
    finished.commit([finished.write_bytes("weights", b"x" * 10)])
    unfinished = writer(f"{bucket}/old", "ingest", 1, {})
    unfinished.write_bytes("part-00000", b"x" * 2000)
    items = garbage(f"{bucket}/old")
    assert [(item.path, item.why) for item in items] == [
        (f"ingest/{unfinished.key}", "unfinished"),
        (f"model/{finished.key}", "unreferenced"),
    ]
    assert items[0].bytes == 2000 and items[0].written > 1.7e9
    delete(f"{bucket}/old", [item.path for item in items])
    assert garbage(f"{bucket}/old") == [] and not s3fs.S3FileSystem().find(f"{bucket}/old")


def test_missing_prefix_is_a_typed_error(bucket: str) -> None:
    with pytest.raises(SourceError, match="There is nothing at s3://pairs/nothing"):
        ingest("/unused", IngestConfig(source=f"{bucket}/nothing"))
    with pytest.raises(SourceError):
        ingest("/unused", IngestConfig(source="s3://no-such-bucket/x"))
