"""Ingest processes and S3 servers are killed at random moments; what was finished is not done again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import s3fs

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.store import Dataset, DatasetWriter, open_dataset, verify
from pipeline_lib.data.ingest import ingest
from tests.pipeline_lib.source_files import image_bytes, row, write_source
from tests.s3_server import S3Server

ROOT = Path(__file__).resolve().parents[3]
SIZES = pytest.mark.parametrize(
    ("source", "moments"),
    [(10, 2), pytest.param(40, 20, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
    indirect=["source"],
    ids=["10 shards", "40 shards"],
)
CHILD = (
    "import sys; from pipeline_lib.core.config import IngestConfig; from pipeline_lib.data.ingest import ingest\n"
    "print('ready', flush=True)\n"
    "print(ingest(sys.argv[1], IngestConfig(source=sys.argv[2])).uri, flush=True)"
)


@pytest.fixture(scope="module")
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """So many files, with images repeated across them, broken first copies and a conflict."""
    files = [[row(4 * i + j) for j in range(4)] for i in range(request.param)]
    for i in range(1, len(files), 3):
        files[i][0] |= {"image_0_uid": "0-a", "jpg_0": image_bytes("0-a")}
        files[i][1] |= {"image_1_uid": f"x-{i % 2}", "jpg_1": image_bytes("x")[: 120 if i < 5 else None]}
    files[-2][2] |= {"image_0_uid": "1-a", "jpg_0": image_bytes("else")}
    return str(write_source(tmp_path_factory.mktemp("source"), *files))


@pytest.fixture(scope="module")
def expected(source: str, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset = ingest(str(tmp_path_factory.mktemp("expected")), IngestConfig(source=source))
    assert len(dataset.tables("pairs")) == len(list(Path(source).iterdir()))
    return dataset


def start(store: str, source: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """An ingest process that has finished its imports."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, store, source],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def timed(store: str, source: str, env: Mapping[str, str] | None = None) -> float:
    """Seconds that a run takes which nobody kills."""
    process = start(store, source, env)
    started = time.monotonic()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return time.monotonic() - started


def published(folder: Path) -> dict[str, int]:
    """Modification times of everything under its final name."""
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")}


def kept(before: Mapping[str, int], folder: Path) -> bool:
    """Whether no file was written again; those of `work/` may be gone."""
    after = published(folder)
    return all(after.get(path) == time for path, time in before.items() if path in after or "/work/" not in path)


@SIZES
def test_killed_at_random_moments_a_run_continues(
    tmp_path: Path, source: str, expected: Dataset, moments: int
) -> None:
    rng = random.Random(moments)
    finished_shards = []
    for moment in range(moments):
        store = tmp_path / f"store-{moment}"
        process = start(str(store), source)
        # A random moment in each part of the run, told by its files: its seconds change with the machine's load.
        wanted = len(expected.shards) * (moment + rng.random()) / moments
        while process.poll() is None and sum("/work/" not in path for path in published(store)) < int(wanted):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = published(store)
        dataset = ingest(str(store), IngestConfig(source=source))
        assert dataset.digest == expected.digest
        assert dataset.counts == expected.counts
        assert kept(before, store), "a shard that was finished before the kill was written again"
        verify(dataset)
        assert not list(Path(dataset.uri).glob("work/*"))
        finished_shards.append(sum("/work/" not in path for path in before))
        shutil.rmtree(store)
    assert len(set(finished_shards)) > moments // 4, f"the kills hit the same moment: {finished_shards}"
    assert any(0 < shards < len(expected.shards) for shards in finished_shards), finished_shards


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    server = S3Server(tmp_path / "s3")
    server.start()
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield server
    s3fs.S3FileSystem.clear_instance_cache()
    server.kill()


@SIZES
@pytest.mark.integration
def test_s3_server_killed_and_brought_back(
    tmp_path: Path, source: str, expected: Dataset, s3: S3Server, moments: int
) -> None:
    """Every other time the ingest process is killed as well; else it survives by its retries, or is run again."""
    rng = random.Random(moments)
    length = timed("s3://bucket/timed", source, s3.env())
    survived = 0
    for moment in range(moments):
        store, folder = f"s3://bucket/store-{moment}", s3.folder / "bucket" / f"store-{moment}"
        process = start(store, source, s3.env())
        time.sleep(length * (moment + rng.random()) / moments)
        s3.kill()
        if moment % 2:
            process.kill()
        before = published(folder)
        time.sleep(rng.random())
        s3.start()
        _, errors = process.communicate(timeout=120)
        survived += process.returncode == 0
        assert process.returncode in (0, -signal.SIGKILL) or "Error: Cannot" in errors, errors
        for _ in range(3):
            again = start(store, source, s3.env())
            uri, errors = again.communicate(timeout=120)
            if again.returncode == 0:
                break
        assert again.returncode == 0, errors
        s3fs.S3FileSystem.clear_instance_cache()
        dataset = open_dataset(uri.strip())
        assert dataset.digest == expected.digest
        assert kept(before, folder), "an object that was finished before the kill was written again"
        verify(dataset)
        shutil.rmtree(folder)


def test_finished_ingest_is_a_no_op(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred shards: under two seconds, and nothing is written."""
    content = image_bytes("0-a"), image_bytes("0-b")
    rows = [[row(i, image_0_uid="a", image_1_uid="b", jpg_0=content[0], jpg_1=content[1])] for i in range(100)]
    source = write_source(tmp_path / "source", *rows)
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=str(source)))
    assert len(dataset.tables("pairs")) == 100
    before = published(tmp_path / "store")
    writes: list[str] = []
    monkeypatch.setattr(DatasetWriter, "_publish", lambda self, path, write, size: writes.append(path))
    started = time.perf_counter()
    assert ingest(str(tmp_path / "store"), IngestConfig(source=str(source))) == dataset
    assert time.perf_counter() - started < 2
    assert writes == [] and published(tmp_path / "store") == before
