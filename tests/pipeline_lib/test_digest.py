"""Digests are stable, and injective where it matters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline_lib.digest import canonical_json, digest, file_sha256, text_id


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
