"""Folders below the system's folder of temporary files that are one user's own: others can neither read nor write."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from pipeline_lib.core.errors import StoreError


def private_folder(name: str) -> Path:
    """`<temporary files>/preference-pipeline-<user id>/<name>`, made when missing, mode 0700.

    Raises:
        StoreError: somebody else has made the folder, who could read it and put files in it; or it cannot be made.
    """
    top = Path(tempfile.gettempdir()) / f"preference-pipeline-{os.getuid()}"
    remedy = "Remove it, or set TMPDIR to a folder of your own."
    try:
        for folder in (top, top / name):
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                raise StoreError(f"{folder} is not a folder of this user (id {os.getuid()}).", remedy)
            if found.st_mode & 0o077:
                folder.chmod(0o700)
    except OSError as error:
        raise StoreError(f"Cannot make {top / name}: {error}.", remedy) from error
    return top / name
