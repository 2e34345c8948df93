"""Folders of Parquet on local disk or S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import SourceError, excerpt
from pipeline_lib.core.transport import transport_errors
from pipeline_lib.core.urls import place
from pipeline_lib.data.sources.columns import hidden, is_data
from pipeline_lib.data.sources.files import Source, SourceFile, split_source
from pipeline_lib.data.sources.splits import split_of


def open_files(config: IngestConfig) -> Source:
    """A folder (or one file) of Parquet on local disk or S3.

    S3 credentials and endpoint come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).
    """
    url = place(config.source)
    return split_source(url, config.split, parquet_files(url))


def parquet_files(url: str) -> list[SourceFile]:
    """The Parquet files at a place, which may be one of them; hidden ones below a folder are not data.

    Links are followed. What is reached twice under names that say the same split is one file.

    Raises:
        SourceError: nothing is there, it cannot be listed, or a link leads nowhere.
    """
    try:
        if url.startswith("s3://"):
            return _of_bucket(url)
        return _of_folder(Path(url.removeprefix("file://")))
    except transport_errors(url) as error:
        raise SourceError(
            f"Cannot list {url}: {error}.", "Check the path or URL, permissions, credentials and AWS_ENDPOINT_URL."
        ) from error


def _of_folder(root: Path) -> list[SourceFile]:
    if root.is_file():
        return [_local(root.name, root)]
    if not root.exists():
        raise _absent(str(root))
    found: dict[tuple[str, str | None], SourceFile] = {}
    for name in sorted(_names(root, "", ())):
        path = root / name
        found.setdefault((os.path.realpath(path), split_of(name)), _local(name, path))
    return list(found.values())


def _names(root: Path, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Relative names of the data files below `folder`; `above` are the folders on the way, which a link must not lead
    back to."""
    here = root / folder
    status = here.stat()
    if (status.st_dev, status.st_ino) in above:
        return
    for entry in os.scandir(here):
        name = f"{folder}/{entry.name}" if folder else entry.name
        if hidden(entry.name):
            continue
        if entry.is_dir():
            yield from _names(root, name, (*above, (status.st_dev, status.st_ino)))
        elif entry.is_symlink() and not os.path.exists(entry.path) and (is_data(name) or "." not in entry.name):
            raise SourceError(
                f"{entry.path} is a link to {os.readlink(entry.path)}, which does not exist.",
                "Mount or restore what it leads to, or remove the link.",
            )
        elif is_data(name) and entry.is_file():
            yield name


def _local(name: str, path: Path) -> SourceFile:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"The name of {excerpt(str(path))} is not UTF-8.", "Rename the file.") from error
    status = path.stat()
    return SourceFile(name, str(path), status.st_size, str(status.st_mtime))


def _of_bucket(url: str) -> list[SourceFile]:
    fs, root = url_to_fs(url)
    fs.invalidate_cache()  # a long-lived process must see files added since it last listed
    if fs.isfile(root):
        found = {root: fs.info(root)}
        root = root.rpartition("/")[0]
    else:
        found = fs.find(root, detail=True)
        if not found:
            raise _absent(url)
    names = {path: path.removeprefix(f"{root}/") for path in found}
    return [
        SourceFile(names[path], fs.unstrip_protocol(path), info["size"], _version(info))
        for path, info in sorted(found.items())
        if is_data(names[path])
    ]


def _absent(url: str) -> SourceError:
    return SourceError(f"There is nothing at {url}.", "Check the path, as the worker's machine has it.")


def _version(info: dict[str, Any]) -> str:
    """ETag where the store has one; else the modification time (hashing terabytes to start a run would cost hours)."""
    return str(info.get("ETag") or info.get("etag") or info.get("mtime") or "").strip('"')
