"""Digests are stable, and injective where it matters."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline_lib.core import digest as module
from pipeline_lib.core.digest import canonical_json, current_sha256, digest, file_sha256, text_id


@dataclass(frozen=True)
class Point:
    x: int
    y: tuple[int, ...] = ()


def test_equal_values_have_equal_digests() -> None:
    assert digest({"b": 1, "a": [1, 2]}) == digest({"a": (1, 2), "b": 1})
    assert digest(Point(1, (2,))) == digest({"x": 1, "y": [2]})
    assert canonical_json({"b": Point(1), "a": None}) == '{"a":null,"b":{"x":1,"y":[]}}'


def test_different_values_have_different_digests() -> None:
    values = [1, 1.5, "1", None, True, [1], {"1": 1}, [], {}, "", [[1], 2], [1, [2]]]
    assert len({digest(value) for value in values}) == len(values)


def test_digests_are_pinned() -> None:
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    assert digest({"a": 1}, 16) == hashlib.sha256(b'{"a":1}').hexdigest()[:16]
    assert text_id("prompt") == hashlib.sha256(b"prompt").hexdigest()[:16]
    assert text_id("é") == hashlib.sha256("é".encode()).hexdigest()[:16]


def test_parts_of_an_id_do_not_run_together() -> None:
    assert text_id("a", "bc") != text_id("ab", "c") != text_id("abc")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), Point])
def test_values_without_canonical_form_are_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        digest(value)


def test_file_digest_reads_all_of_it(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than two chunks
    path = tmp_path / "file"
    path.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()


def old(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose times are of long ago, as this process sees it."""
    path.write_bytes(content)
    monkeypatch.setattr(module, "SETTLED_S", -1e9)
    return path


def test_a_file_is_hashed_again_only_when_it_may_be_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, hashed = old(tmp_path / "weights", b"one", monkeypatch), []

    def counted(file: Path) -> str:
        hashed.append(file)
        return file_sha256(file)

    monkeypatch.setattr(module, "file_sha256", counted)
    assert current_sha256(path) == current_sha256(path) == hashlib.sha256(b"one").hexdigest()
    assert len(hashed) == 1
    before = path.stat()
    path.write_bytes(b"two")  # of the same size, and with its old time put back, as by rsync or cp -p
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert current_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_another_file_under_the_name_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "weights", b"one", monkeypatch)
    first = current_sha256(path)
    os.replace(old(tmp_path / "other", b"two", monkeypatch), path)
    assert current_sha256(path) != first
    link = tmp_path / "link"
    link.symlink_to("weights")
    assert current_sha256(link) == current_sha256(path)
    link.unlink()
    link.symlink_to(old(tmp_path / "third", b"six", monkeypatch))
    assert current_sha256(link) == hashlib.sha256(b"six").hexdigest()


def test_a_file_that_has_just_been_written_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writes within a file system's grain of time leave equal times."""
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    monkeypatch.setattr(module, "_sha256", None)
    assert current_sha256(path) == hashlib.sha256(b"one").hexdigest()
