"""Finding the files of a split."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import SourceError, UnknownNameError
from pipeline_lib.data.sources import open_source
from pipeline_lib.data.sources.splits import split_of
from tests.pipeline_lib.source_files import row, write_file


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00645.parquet", "train"),
        ("data/validation_unique-00000-of-00001.parquet", "validation_unique"),
        ("test/0000.parquet", "test"),
        ("default/train/0.parquet", "train"),
        ("train.parquet", "train"),
        ("part-00000.parquet", None),
        ("training_pairs.parquet", "train_pairs"),
        ("trainer-0.parquet", None),
        ("published_scores.parquet", None),
    ],
)
def test_split_of_name(name: str, split: str | None) -> None:
    assert split_of(name) == split


def files(folder: Path, split: str = "train") -> list[str]:
    return [file.name for file in open_source(IngestConfig(source=str(folder), split=split)).files]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        write_file(folder / name, [row(0)])
    return folder


def test_files_of_a_split_in_name_order(tmp_path: Path) -> None:
    touch(tmp_path, "train-1.parquet", "train-0.parquet", "validation-0.parquet", "sub/train-2.parquet")
    (tmp_path / "README.md").write_text("x")
    assert files(tmp_path) == ["sub/train-2.parquet", "train-0.parquet", "train-1.parquet"]
    assert files(tmp_path, "validation") == ["validation-0.parquet"]
    with pytest.raises(SourceError, match=r"no files of split 'test'.*\n.*split=train or validation"):
        files(tmp_path, "test")


def test_folder_without_split_names_is_one_split(tmp_path: Path) -> None:
    touch(tmp_path, "b.parquet", "a/c.parquet")
    assert files(tmp_path, "validation") == ["a/c.parquet", "b.parquet"]


def test_single_file_is_a_source(tmp_path: Path) -> None:
    touch(tmp_path, "train-0.parquet", "train-1.parquet")
    assert files(tmp_path / "train-1.parquet") == ["train-1.parquet"]


def test_relative_folder_is_pinned_as_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in", "a.parquet")
    monkeypatch.chdir(tmp_path)
    source = open_source(IngestConfig(source="in"))
    assert source.url == str(tmp_path / "in")
    monkeypatch.chdir("/")
    assert source.files[0].open().read(4) == b"PAR1"


def test_identity_changes_with_content(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet")
    config = IngestConfig(source=str(tmp_path))
    before = open_source(config).identity()
    assert open_source(config).identity() == before
    write_file(tmp_path / "a.parquet", [row(0), row(1)])
    assert open_source(config).identity() != before


@pytest.mark.parametrize("source", ["absent", "shapes://other", "hf://org/name", "hf://datasets/name"])
def test_unusable_source_is_a_typed_error(tmp_path: Path, source: str) -> None:
    with pytest.raises(SourceError):
        open_source(IngestConfig(source=source if "://" in source else str(tmp_path / source)))


def test_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="Use one of: file, hf, s3, shapes"):
        open_source(IngestConfig(source="s4://bucket/x"))


def test_file_that_is_gone_is_a_typed_error(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet")
    source = open_source(IngestConfig(source=str(tmp_path)))
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(SourceError, match=r"Cannot open .*a\.parquet"):
        source.files[0].open()
