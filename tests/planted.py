"""Secrets that are planted in environments, and looked for in all that was written."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

LOCAL = {"HF_TOKEN": "hf_planted_token", "AWS_SECRET_ACCESS_KEY": "planted/s3+key"}
"""For a stack without logins; nothing there uses them."""


def holders(folder: Path, secrets: Iterable[str], known: Collection[str] = ()) -> dict[str, str]:
    """Files below a folder, databases included, that hold a secret -> which one; those named in `known` may."""
    words = list(secrets)
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name not in known:
            content = path.read_bytes()
            found |= {str(path): word for word in words if word.encode() in content}
    return found
