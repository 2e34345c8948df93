"""Who may read what is written: the state's folder is its owner's, or its group's; a store is whose its folder is."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

_OTHERS, _GROUP_AND_OTHERS = 0o007, 0o077


def umask_of(folder: Path) -> int:
    """The umask of who writes below the state's folder: all its owner's or, where the group may write, the group's."""
    return _OTHERS if folder.exists() and _mode(folder) & stat.S_IWGRP else _GROUP_AND_OTHERS


def own(folder: Path) -> int:
    """Create the state's folder for its owner alone, or shut others out of one that is there; returns the umask.

    A folder that is there and that its group may write stays the group's: several users share it on purpose.

    Raises:
        OSError: it cannot be made, or is another user's and open to all.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    umask = umask_of(folder)
    if _mode(folder) & umask:
        folder.chmod(_mode(folder) & ~umask)
    return umask


def make_folders(root: Path, folder: Path) -> None:
    """Create `folder` and those above it, each below `root` with its permissions, whatever the umask."""
    if folder.is_dir():
        return
    if root not in folder.parents or not root.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        return
    make_folders(root, folder.parent)
    with suppress(FileExistsError):  # another process was faster
        folder.mkdir()
        _permit(folder, _mode(root) | 0o700)


def share(root: Path, file: Path) -> None:
    """Let those read and write a file who may read and write in the folder `root`."""
    _permit(file, _mode(root) & 0o666 | 0o600)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _permit(path: Path, mode: int) -> None:
    with suppress(OSError):  # not every file system has permissions
        path.chmod(mode)
