"""A disk that is full: said in words, nothing half-written, and the same bytes once there is space."""

from __future__ import annotations

import errno
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline_lib.core import store
from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.disk import disk_full
from pipeline_lib.core.errors import DatasetUnfinishedError, DiskFullError
from pipeline_lib.core.store import open_dataset, verify
from pipeline_lib.data.ingest import ingest
from tests.pipeline_lib.full_disk import small_disk
from tests.pipeline_lib.source_files import row, write_source

MB = 1 << 20


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("28"), False),
    ],
)
def test_a_full_disk_is_told_from_other_trouble(error: Exception, full: bool, tmp_path: Path) -> None:
    found = disk_full(error, tmp_path / "not" / "there", size=3 * MB)
    assert bool(found) is full
    if found:
        assert str(tmp_path) in found.problem and "3.1 MB were to be written" in found.problem
        assert "Make space" in found.remedy


def test_a_shard_that_does_not_fit_leaves_nothing_and_those_that_do_stay(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MB) as disk:
        writer = store.writer(str(disk.folder), "stage", 1, {})
        small = writer.write_bytes("small.bin", b"a" * 1000)
        for write in (
            lambda: writer.write_bytes("large.bin", bytes(2 * MB)),
            lambda: writer.write_table("part-00000.parquet", pa.table({"bytes": [bytes(2 * MB)]})),
        ):
            with pytest.raises(DiskFullError) as caught:
                write()
            assert str(disk.folder) in caught.value.problem and "2.1 MB were to be written" in caught.value.problem
        assert [path.name for path in Path(writer.uri).iterdir()] == ["small.bin"]
        assert writer.existing("small.bin") == small and writer.existing("large.bin") is None
        disk.fill(left=0)
        with pytest.raises(DiskFullError):
            writer.commit([small])
        with pytest.raises(DatasetUnfinishedError):
            open_dataset(writer.uri)
        disk.make_space()
        verify(writer.commit([small]))


def test_ingest_on_a_full_disk_goes_on_when_there_is_space(tmp_path: Path) -> None:
    write_source(tmp_path / "source", *([row(i) for i in range(n, n + 20)] for n in (0, 20, 40)))
    config = IngestConfig(source=str(tmp_path / "source"))
    whole = ingest(str(tmp_path / "elsewhere"), config)
    needed = sum(shard.bytes for shard in whole.shards)
    with small_disk(tmp_path / "disk", needed // 2) as disk:
        with pytest.raises(DiskFullError, match=str(disk.folder)):
            ingest(str(disk.folder), config)
        assert not list(disk.folder.rglob("manifest.json")) and not list(disk.folder.rglob("*.tmp"))
        written = {path for path in disk.folder.rglob("*.parquet")}
        assert written, "the first shards fit"
        disk.resize(4 * needed)
        again = ingest(str(disk.folder), config)
        assert again.digest == whole.digest
        verify(again)
