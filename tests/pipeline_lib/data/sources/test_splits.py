"""Which files are read as a split, in the layouts that people have."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import SourceError
from pipeline_lib.data.sources import open_source
from pipeline_lib.data.sources.splits import canonical, same_split


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": [1]}), folder / name)
    return folder


def read(folder: Path, split: str = "train") -> list[str]:
    return [file.name for file in open_source(IngestConfig(source=str(folder), split=split)).files]


@pytest.mark.parametrize(
    ("train", "other"),
    [
        ("pickapic_v2_train_pairs.parquet", "pickapic_v2_test_pairs.parquet"),
        ("TRAIN_PART_1.PARQUET", "VAL_PART_1.PARQUET"),
        ("sdxlTrain.parquet", "sdxlTest.parquet"),
        ("split=train/model_0=test/0.parquet", "split=test/model_0=train/0.parquet"),
        ("pairs-train-00000-of-00002-0123456789abcdef.parquet", "pairs-dev-00000-of-00002-0123456789abcdef.parquet"),
        ("Training/a/b/0.parq", "Evaluation/a/b/0.parq"),
        ("train.parquet/part-0.snappy.parquet", "test.parquet/part-0.snappy.parquet"),
        ("my.train.pq", "my.valid.pq"),
        ("train2014.parquet", "val2014.parquet"),
    ],
)
def test_the_other_split_is_not_read(tmp_path: Path, train: str, other: str) -> None:
    write(tmp_path, train, other)
    assert read(tmp_path) == [train]
    source = open_source(IngestConfig(source=str(tmp_path)))
    assert [file.name for files in source.others.values() for file in files] == [other]


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("train_00000.parquet", "train_00001.parquet", "train_9.parquet"), "train"),
        (("train-part-1.parquet", "train_chunk_2.parquet", "training/c.parquet"), "Train"),
        (("train_0a1b2c3d.parquet", "train_1122334455.parquet"), "train"),
        (("train/train_extra.parquet", "train/train.parquet"), "train"),
        (("val_0.parquet", "valid_1.parquet", "validation-2.parquet"), "validation"),
        (("dev.parquet",), "validation"),
        (("eval/0.parquet",), "test"),
        (("validation.parquet",), "dev"),
        (("train_pairs.parquet",), "train"),
        (("split=fold%201/x.parquet",), "Fold 1"),
    ],
)
def test_all_files_of_a_split_are_read(tmp_path: Path, names: tuple[str, ...], split: str) -> None:
    write(tmp_path, *names)
    assert read(tmp_path, split) == sorted(names)


def test_a_split_cut_from_another_is_one_of_its_own(tmp_path: Path) -> None:
    hub = ["train_prefs-00000-of-00001.parquet", "validation_unique-00000-of-00001.parquet"]
    write(tmp_path, "train-00000-of-00001.parquet", "validation-00000-of-00001.parquet", *hub)
    assert read(tmp_path) == ["train-00000-of-00001.parquet"]
    assert read(tmp_path, "train_prefs") == hub[:1]
    assert read(tmp_path, "validation") == ["validation-00000-of-00001.parquet"]
    assert read(tmp_path, "validation_unique") == hub[1:]
    write(tmp_path / "few", "test.parquet", "eval.parquet")
    assert read(tmp_path / "few", "test") == ["test.parquet"] and read(tmp_path / "few", "eval") == ["eval.parquet"]


@pytest.mark.parametrize(
    ("names", "split", "says"),
    [
        (
            ("train.parquet", "b.parquet", "sub/a.parquet"),
            "train",
            r"2 whose names say none: b\.parquet, sub/a\.parquet",
        ),
        (("Test/0.parquet", "extra.parq"), "test", r"1 whose names say none: extra\.parq"),
        (("split=train/0.parquet", "holdout/0.parquet"), "train", r"say none: holdout/0\.parquet"),
        (("train.parquet", "train_more.parquet"), "train", r"only begin so: train_more\.parquet"),
        (("train_a.parquet", "train_b.parquet"), "train", "split=train_a or train_b"),
        (("train-and-test.parquet", "val.parquet"), "train", r"two splits: train-and-test\.parquet"),
        (("test/train.parquet", "train/a.parquet"), "train", r"two splits: test/train\.parquet"),
        (("train_test-00000-of-00001.parquet",), "train", "split=train_test"),
        (("train_0001.parquet",), "train_0002", "no files of split 'train_0002'"),
        (("testing/0.parquet", "valid.parquet"), "train", "split=testing or valid"),
    ],
)
def test_what_is_not_clear_is_an_error_that_lists_it(
    tmp_path: Path, names: tuple[str, ...], split: str, says: str
) -> None:
    write(tmp_path, *names)
    with pytest.raises(SourceError, match=says):
        read(tmp_path, split)


def test_a_table_of_something_else_is_no_file_of_pairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = {
        "caption": [""],
        "jpg_0": [b""],
        "jpg_1": [b""],
        "label_0": [1.0],
        "image_0_uid": [""],
        "image_1_uid": [""],
    }
    pq.write_table(pa.table(pairs), tmp_path / "train.parquet")
    pq.write_table(pa.table({"image_uid": [""], "score": [1.0]}), tmp_path / "scores.parquet")
    assert read(tmp_path) == ["train.parquet"]
    assert "scores.parquet" in caplog.text
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match=r"say none: damaged\.parquet"):
        read(tmp_path)


def test_names_of_one_split() -> None:
    assert same_split(" TRAIN", "training") and same_split("val", "Validation") and same_split("Fold 3", "fold 3")
    assert not same_split("test", "eval") and not same_split("train_0001", "train") and not same_split("", "train")
    assert canonical("my-train") == "my-train"


def test_hidden_files_and_folders_are_no_data(tmp_path: Path) -> None:
    write(tmp_path, "train.parquet", "_tmp/train.parquet", "a/.cache/b/train.parquet", "_x.parquet", ".y.parquet")
    write(tmp_path, "a/_SUCCESS.parquet", "_split=train/z.parquet", "__pycache__/test.parquet")
    with pytest.raises(SourceError, match=r"1 whose names say none: _split=train/z\.parquet"):
        read(tmp_path)
    (tmp_path / "_split=train/z.parquet").unlink()
    assert read(tmp_path) == ["train.parquet"]


def test_links_are_followed_and_lead_round_no_circle(tmp_path: Path) -> None:
    write(tmp_path / "disk", "a.parquet", "deep/b.parquet")
    root = write(tmp_path / "source", "test/c.parquet")
    os.symlink(tmp_path / "disk", root / "train")
    os.symlink(root, root / "test" / "up")
    os.symlink(tmp_path / "disk" / "deep" / "b.parquet", root / "train_2.parquet")
    assert read(root) == ["train/a.parquet", "train/deep/b.parquet"], "a file that is reached twice was read twice"
    assert read(root, "test") == ["test/c.parquet"]
    os.symlink(tmp_path / "unmounted", root / "validation")
    with pytest.raises(SourceError, match=r"validation is a link to .*unmounted, which does not exist"):
        read(root)


def test_a_link_has_the_version_of_what_it_leads_to(tmp_path: Path) -> None:
    write(tmp_path, "disk/a.parquet", "source/b.parquet")
    os.symlink(tmp_path / "disk/a.parquet", tmp_path / "source/a.parquet")
    config = IngestConfig(source=str(tmp_path / "source"))
    before = open_source(config).identity()
    os.utime(tmp_path / "disk/a.parquet", (1, 1))
    assert open_source(config).identity() != before


@pytest.mark.parametrize("name", ["no/such", "file.parquet"])
def test_a_path_that_is_not_there_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="There is nothing at"):
        read(tmp_path / name)


def test_folders_that_cannot_be_listed_are_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "train.parquet", "shut/train.parquet")
    scandir = os.scandir

    def refusing(path: Path) -> object:  # root may read everything, whatever the mode
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(SourceError, match=r"Cannot list .*Permission denied"):
        read(tmp_path)


def test_names_with_colons_are_names(tmp_path: Path) -> None:
    folder = write(tmp_path / "a::b", "train::1.parquet", "zip::train.parquet")
    source = open_source(IngestConfig(source=str(folder)))
    assert [file.name for file in source.files] == ["train::1.parquet", "zip::train.parquet"]
    assert all(file.open().read(4) == b"PAR1" for file in source.files)
