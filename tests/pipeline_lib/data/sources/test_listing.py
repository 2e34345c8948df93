"""Links in a folder of pairs: what they lead to is read, and its changes are seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import SourceError
from pipeline_lib.data.sources import open_source
from pipeline_lib.data.sources.files import Source


def source(folder: Path, split: str = "train") -> Source:
    return open_source(IngestConfig(source=str(folder), split=split))


def names(folder: Path, split: str = "train") -> list[str]:
    return [file.name for file in source(folder, split).files]


def write(path: Path, content: bytes = b"PAR1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_split_behind_a_chain_of_links_is_read(tmp_path: Path) -> None:
    write(tmp_path / "disk/v2/00.parquet")
    (tmp_path / "disk/current").symlink_to("v2")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs/validation").symlink_to(tmp_path / "disk/current")
    assert names(tmp_path / "pairs", "validation") == ["validation/00.parquet"]


def test_a_snapshot_of_the_hubs_cache_is_read_as_its_files(tmp_path: Path) -> None:
    blob = write(tmp_path / "blobs/abc", b"PAR1 and more")
    (tmp_path / "snapshots/1/data").mkdir(parents=True)
    (tmp_path / "snapshots/1/data/train-0.parquet").symlink_to("../../../blobs/abc")
    (file,) = source(tmp_path / "snapshots/1").files
    assert (file.name, file.size) == ("data/train-0.parquet", blob.stat().st_size)


def test_a_link_that_is_turned_to_another_file_of_the_same_size_is_another_version(tmp_path: Path) -> None:
    for number, name in enumerate(("v1", "v2")):
        os.utime(write(tmp_path / name), (number, number))
    link = tmp_path / "pairs/train.parquet"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "v1")
    before, stamp = source(link.parent).identity(), os.lstat(link).st_mtime_ns
    link.unlink()
    link.symlink_to(tmp_path / "v2")
    os.utime(link, ns=(stamp, stamp), follow_symlinks=False)
    assert source(link.parent).identity() != before


def test_a_link_back_up_is_not_followed_for_ever(tmp_path: Path) -> None:
    write(tmp_path / "part/a.parquet")
    (tmp_path / "part/all").symlink_to(tmp_path)
    assert names(tmp_path) == ["part/a.parquet"]


@pytest.mark.parametrize("name", ["train", "train-1.parquet"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "train-0.parquet")
    (tmp_path / ".lock").symlink_to("user@host:1")  # a program's mark
    (tmp_path / name).symlink_to("/mnt/unmounted")
    with pytest.raises(SourceError, match=rf"(?s){name} is a link to /mnt/unmounted.*Mount or restore"):
        source(tmp_path)
