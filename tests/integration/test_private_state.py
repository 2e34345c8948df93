"""What a stack and its runs write is for nobody else on the machine: modes, another user, and command lines."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import current_settings
from deploy.stack.processes import owned_processes
from tests import planted

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

NOBODY = 65534


@pytest.fixture
def state(stack: dict[str, str], aligned: dict[str, Any]) -> Path:
    """The folder of a stack that has run the whole chain."""
    return Path(stack["PIPELINE_STATE"])


@pytest.fixture
def reachable(state: Path) -> Iterator[None]:
    """The folders above it let everybody through, as those of a home often do; pytest's do not."""
    above = [folder for folder in state.parents if folder.stat().st_mode & 0o011 != 0o011]
    modes = [folder.stat().st_mode for folder in above]
    for folder, mode in zip(above, modes, strict=True):
        folder.chmod(mode | 0o011)
    yield
    for folder, mode in zip(above, modes, strict=True):
        folder.chmod(mode)


def test_nothing_of_a_state_folder_is_open_to_group_or_others(state: Path) -> None:
    paths = [state, *state.rglob("*")]
    found = {path.name for path in paths}
    assert {"prefect.db", "mlflow.db", "stack.json", "lock", "worker.log", "supervisor.log", "manifest.json"} <= found
    assert {"store", "scratch", "locks", "mlflow", "prefect", "logs"} <= found
    open_to_others = {
        str(path.relative_to(state)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in paths
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    }
    assert open_to_others == {}


def read_as(user: int, paths: list[Path]) -> list[str]:
    """Those of the paths that a user can list or read; a process of its own becomes that user."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        found = []
        for path in paths:
            with suppress(OSError):
                os.listdir(path) if path.is_dir() else path.open("rb").close()
                found.append(str(path))
        with os.fdopen(writing, "w") as pipe:
            pipe.write("\n".join(found))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read().splitlines()
    assert os.waitpid(child, 0)[1] == 0
    return said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reads_nothing(state: Path, reachable: None) -> None:
    paths = [state, *state.rglob("*")]
    assert read_as(NOBODY, paths) == []
    assert len(read_as(0, paths)) > 100


def test_command_lines_hold_no_secret(stack: dict[str, str], state: Path) -> None:
    """Every user of the machine can read them."""
    lines = [" ".join(process.cmdline()) for process in owned_processes(current_settings(stack))]
    assert len(lines) >= 3
    assert not [line for line in lines for secret in planted.LOCAL.values() if secret in line]
