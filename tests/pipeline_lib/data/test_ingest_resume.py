"""Ingest can be killed at any moment, run in any order and run twice at once, and ends in the same bytes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.store import Dataset, DatasetWriter, Shard, verify
from pipeline_lib.data.ingest import finish, ingest, ingest_images, plan, start, units
from tests.pipeline_lib.source_files import image_bytes, row, write_source


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestConfig:
    """Three files of two row groups, with repeated images, one broken first copy, a conflict and a duplicate."""
    monkeypatch.setattr(units, "UNIT_BYTES", 1)  # a unit per row group
    broken = {"image_0_uid": "x", "jpg_0": image_bytes("x")[:-100]}
    sound = {"image_0_uid": "x", "jpg_0": image_bytes("x")}
    shared = {"image_1_uid": "1-b", "jpg_1": image_bytes("1-b", kind="JPEG")}
    conflict = {"image_1_uid": "2-b", "jpg_1": image_bytes("else")}
    rows = [row(i) for i in range(22)]
    rows[3], rows[9], rows[12], rows[14], rows[17] = (
        row(3, **broken),
        row(9, **sound),
        row(12, **shared),
        row(1),
        row(17, **conflict),
    )
    write_source(tmp_path / "source", rows[:8], rows[8:16], rows[16:])
    return IngestConfig(source=str(tmp_path / "source"))


def reference(tmp_path: Path, config: IngestConfig) -> Dataset:
    dataset = ingest(str(tmp_path / "reference"), config)
    assert dataset.counts["pairs"] == 19
    assert len(dataset.tables("pairs")) == 6
    return dataset


def test_units_in_any_order_give_the_same_bytes(tmp_path: Path, source: IngestConfig) -> None:
    job = start(str(tmp_path / "backwards"), source)
    parts = plan(job)
    for unit in reversed(parts):
        ingest_images(job, unit)
    assert finish(job, parts).digest == reference(tmp_path, source).digest


def test_images_of_finished_units_are_not_read_again(
    tmp_path: Path, source: IngestConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On S3 reading them to hash them is a download of the whole dataset."""
    job = start(str(tmp_path / "store"), source)
    parts = plan(job)
    for unit in parts:
        ingest_images(job, unit)
    existing = DatasetWriter.existing
    asked: list[str] = []

    def watching(self: DatasetWriter, path: str) -> Shard | None:
        asked.append(path)
        return existing(self, path)

    monkeypatch.setattr(DatasetWriter, "existing", watching)
    dataset = ingest(str(tmp_path / "store"), source)
    assert not [path for path in asked if path.startswith("images/part")]
    assert dataset.digest == reference(tmp_path, source).digest


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


def test_run_killed_at_every_write_continues(
    tmp_path: Path, source: IngestConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reference(tmp_path, source)
    publish = DatasetWriter._publish
    written: list[str] = []
    left = 0

    def counting(self: DatasetWriter, path: str, write: Any, size: int) -> Shard:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        written.append(path)
        return publish(self, path, write, size)

    monkeypatch.setattr(DatasetWriter, "_publish", counting)
    store = str(tmp_path / "store")
    for _ in range(100):
        left = 1  # one write per life
        try:
            dataset = ingest(store, source)
            break
        except Killed:
            continue
    else:
        pytest.fail("ingest makes no progress")
    assert dataset.digest == expected.digest
    assert dataset.counts == expected.counts
    assert len(written) == len(set(written)), "a finished shard was written again"
    verify(dataset)
    before = len(written)
    assert ingest(store, source).digest == expected.digest
    assert len(written) == before


def test_killed_processes_continue(tmp_path: Path, source: IngestConfig) -> None:
    code = (
        "import sys; from pipeline_lib.core.config import IngestConfig\n"
        "from pipeline_lib.data.ingest import ingest, units\n"
        "units.UNIT_BYTES = 1\n"
        "print('ready', flush=True)\n"
        "ingest(sys.argv[1], IngestConfig(source=sys.argv[2]))"
    )
    expected = reference(tmp_path, source)
    root = Path(__file__).resolve().parents[3]
    for delay in (0.01, 0.06):
        store = tmp_path / f"store-{delay}"
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(store), source.source], stdout=subprocess.PIPE, cwd=root
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.communicate()
        dataset = ingest(str(store), source)
        assert dataset.digest == expected.digest
        verify(dataset)


def test_runs_at_the_same_time_end_in_one_dataset(tmp_path: Path, source: IngestConfig) -> None:
    expected = reference(tmp_path, source)
    for attempt in range(2):
        store = str(tmp_path / f"store-{attempt}")
        with ThreadPoolExecutor(3) as pool:
            datasets = list(pool.map(ingest, [store] * 3, [source] * 3))
        assert {dataset.digest for dataset in datasets} == {expected.digest}
        verify(datasets[0])


def test_key_follows_content_and_settings(tmp_path: Path, source: IngestConfig) -> None:
    def key(config: IngestConfig) -> str:
        return start(str(tmp_path / "store"), config).writer.key

    first = key(source)
    assert key(source) == first
    assert key(IngestConfig(source=source.source, limit=3)) != first
    extra = Path(source.source) / "train-00009.parquet"
    shutil.copy(next(Path(source.source).glob("*.parquet")), extra)
    assert key(source) != first


def test_progress_counts_rows(tmp_path: Path, source: IngestConfig) -> None:
    seen: list[tuple[int, int]] = []
    ingest(str(tmp_path / "store"), source, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (22, 22)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
