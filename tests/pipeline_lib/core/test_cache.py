"""Local copies of remote datasets: whose they are, how much they take, and what is removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline_lib.core import cache
from pipeline_lib.core.errors import StoreError
from pipeline_lib.core.private import private_folder

OTHER = """
import sys
from pathlib import Path
from pipeline_lib.core.cache import copy_folder
folder = copy_folder(sys.argv[1])
(folder / "file").write_bytes(bytes(1000))
print("ready", flush=True)
sys.stdin.read()
"""

SOMEBODY = """
import os
from pipeline_lib.core.cache import copy_folder
os.setgid(65534)
os.setuid(65534)
print(copy_folder("a"))
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(cache, "_held", {})
    yield tmp_path
    tempfile.tempdir = None


def allow(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=cache.SHARE * size))


def copied(digest: str, size: int = 1000, days: float = 0.0) -> Path:
    """A copy that an earlier process made."""
    folder = cache.copy_folder(digest)
    (folder / "file").write_bytes(bytes(size))
    cache._held.popitem()[1].close()
    when = time.time() - days * 24 * 3600
    os.utime(folder.with_name(f"{digest}.lock"), (when, when))
    return folder


def test_only_the_user_can_read_or_write_copies(temporary: Path) -> None:
    folder = cache.copy_folder("a")
    assert folder.is_relative_to(temporary)
    for place in (folder, folder.parent, folder.parent.parent):
        assert place.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_somebody_else_put_there_is_not_used(temporary: Path) -> None:
    (temporary / "elsewhere").mkdir()
    (temporary / f"preference-pipeline-{os.getuid()}").symlink_to(temporary / "elsewhere")
    with pytest.raises(StoreError, match=r"is not a folder of this user[\s\S]*TMPDIR"):
        private_folder("datasets")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_two_users_of_one_machine_have_copies_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Path(tempfile.mkdtemp(dir="/tmp"))  # others cannot enter pytest's own folders
    shared.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(shared))
    monkeypatch.setattr(tempfile, "tempdir", None)
    try:
        mine = cache.copy_folder("a")
        theirs = subprocess.run([sys.executable, "-c", SOMEBODY], capture_output=True, text=True, timeout=60)
        assert theirs.returncode == 0, theirs.stderr
        assert Path(theirs.stdout.strip()) != mine
    finally:
        shutil.rmtree(shared)


def test_the_least_recently_used_go_first_and_no_more_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(2500, monkeypatch)
    old, older, newest = copied("old", days=2), copied("older", days=3), copied("newest")
    assert old.exists() and older.exists(), "there was room when they came"
    cache.copy_folder("asked")
    assert not older.exists() and old.exists() and newest.exists()
    assert not older.with_name("older.lock").exists()


def test_what_nobody_has_used_for_long_goes_also_where_there_is_room() -> None:
    unused, used = copied("unused", days=15), copied("used", days=13)
    cache.copy_folder("asked")
    assert not unused.exists() and used.exists()


def test_what_a_living_process_has_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(10, monkeypatch)
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, "theirs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout and process.stdout.readline() == "ready\n"
    own = cache.copy_folder("own")
    theirs = own.with_name("theirs")
    assert (theirs / "file").exists()
    process.stdin.close()
    process.wait()
    process.stdout.close()
    cache.copy_folder("another")
    assert not theirs.exists() and own.exists()
