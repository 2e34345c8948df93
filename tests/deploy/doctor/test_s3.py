"""The doctor's write to a real S3 server: allowed, refused, with wrong keys, without a bucket, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.doctor import Surroundings
from deploy.doctor.findings import Finding
from deploy.doctor.s3 import s3
from tests.s3_server import S3Server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    (tmp_path / "bucket").mkdir()
    server = S3Server(tmp_path)
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    server.start()
    yield server
    server.kill()


def probed(url: str = "s3://bucket/store") -> Finding:
    (finding,) = s3(Surroundings({"PIPELINE_STORE": url}))
    return finding


def test_a_bucket_that_can_be_written_keys_and_buckets_that_cannot(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probed().what == "PIPELINE_STORE: s3://bucket/store can be written, read and deleted from"
    assert not [path for path in server.folder.rglob("*") if path.is_file()]
    gone = probed("s3://nowhere/store")
    assert gone.level == "error" and "NoSuchBucket" in gone.what and "make the bucket" in gone.remedy
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    wrong = probed()
    assert (
        wrong.level == "error" and "nothing can be written" in wrong.what and "AWS_SECRET_ACCESS_KEY" in wrong.remedy
    )
    assert "wrong-and-secret" not in wrong.what + wrong.remedy
    server.kill()
    silent = probed()
    assert silent.level == "error" and "cannot be used" in silent.what and "AWS_ENDPOINT_URL" in silent.remedy


def test_a_server_that_refuses_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCLONE_READ_ONLY", "true")
    (tmp_path / "bucket").mkdir()
    server = S3Server(tmp_path)
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    server.start()
    try:
        refused = probed()
    finally:
        server.kill()
    assert refused.level == "error" and "nothing can be written" in refused.what


def test_s3_that_nobody_uses() -> None:
    assert [finding.what for finding in s3(Surroundings({"PIPELINE_STORE": "/data/store"}))] == ["not used"]
