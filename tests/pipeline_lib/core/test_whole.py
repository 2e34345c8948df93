"""Folders appear whole, and those that are read stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.core.whole import whole_folder


def write(out: Path, **files: str) -> None:
    with whole_folder(out) as folder:
        (folder / "below").mkdir()
        for name, text in files.items():
            (folder / "below" / name).write_text(text)


def test_nothing_is_seen_before_the_end_and_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "new/out"
    with whole_folder(out) as folder:
        (folder / "a").write_text("x")
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["a"]
    with pytest.raises(RuntimeError), whole_folder(out) as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert (out / "a").read_text() == "x"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_the_same_content_leaves_the_folder_that_somebody_reads(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, a="1", b="2")
    inode = out.stat().st_ino
    write(out, a="1", b="2")
    assert out.stat().st_ino == inode
    for change in ({"a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "b": "2", "c": ""}):
        write(out, **change)
        assert {path.name: path.read_text() for path in (out / "below").iterdir()} == change
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError):
        write(tmp_path / "out", a="1")
    assert (tmp_path / "out").read_text() == "mine"
