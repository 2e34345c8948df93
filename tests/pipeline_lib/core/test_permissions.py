"""Permissions: a state's folder is closed to others, a group's stays the group's, a store is whose its folder is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_lib.core.permissions import own, umask_of
from pipeline_lib.core.store import writer


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_state_folder_is_made_for_its_owner(tmp_path: Path) -> None:
    assert umask_of(tmp_path / "a" / "state") == own(tmp_path / "a" / "state") == 0o077
    assert mode(tmp_path / "a" / "state") == 0o700


@pytest.mark.parametrize(
    ("before", "after", "umask"),
    [(0o755, 0o700, 0o077), (0o2755, 0o2700, 0o077), (0o2770, 0o2770, 0o007), (0o2777, 0o2770, 0o007)],
)
def test_one_that_is_there_is_closed_to_others(tmp_path: Path, before: int, after: int, umask: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(before)
    assert umask_of(folder) == own(folder) == umask
    assert mode(folder) == after


@pytest.mark.parametrize(("folder", "files"), [(0o700, 0o600), (0o755, 0o644), (0o2770, 0o660)])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_store_is_read_by_those_who_may_read_its_folder(tmp_path: Path, folder: int, files: int, umask: int) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(folder)
    os.umask(umask)
    target = writer(str(store), "labels", 1, {})
    target.commit([target.write_bytes("deep/er/report.html", b"x")])
    inside = list(store.rglob("*"))
    assert {mode(path) for path in inside if path.is_dir()} == {folder}
    assert {mode(path) for path in inside if path.is_file()} == {files} and len(inside) == 6


def test_a_new_store_has_what_the_umask_leaves(tmp_path: Path) -> None:
    os.umask(0o077)
    done = writer(str(tmp_path / "new" / "store"), "labels", 1, {}).commit([])
    assert mode(tmp_path / "new" / "store") == 0o700 and mode(Path(done.uri, "manifest.json")) == 0o600
