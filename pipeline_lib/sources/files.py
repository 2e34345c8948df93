"""Folders of Parquet on local disk or S3, and the file list every source comes down to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline_lib.config import IngestConfig
from pipeline_lib.errors import SourceError
from pipeline_lib.sources.listing import listed
from pipeline_lib.store import absolute
from pipeline_lib.transport import transport_errors

# A path component such as `train-00000-of-00004.parquet`, `validation_unique-...` or a folder `test/`.
_SPLIT = re.compile(r"^(train|validation|valid|val|dev|test)(_[A-Za-z0-9]+)?(?=[-.]|$)")


@dataclass(frozen=True)
class SourceFile:
    """One Parquet file of a source: `version` changes whenever its content does (ETag, commit, hash, or mtime)."""

    name: str
    uri: str
    size: int
    version: str

    def open(self) -> IO[bytes]:
        """The file, opened for random access; raises SourceError when it cannot be."""
        try:
            return fsspec.open(self.uri, "rb").open()
        except transport_errors(self.uri) as error:
            raise SourceError(
                f"Cannot open {self.uri}: {error}.", "Check that the source is still there and can be reached."
            ) from error


@dataclass(frozen=True)
class Source:
    """One split of a source, pinned: plain data, so that any process can read any of its files."""

    url: str
    split: str
    files: Sequence[SourceFile]
    others: Mapping[str, Sequence[SourceFile]] = field(default_factory=dict)
    """The files of the other splits, `validation_unique` being part of `validation`: what prompts could leak to."""

    def identity(self) -> dict[str, Any]:
        """What decides the content, for the dataset key: URL, split, and every file's name, size and version."""
        return {
            "source": self.url,
            "split": self.split,
            "files": [[f.name, f.size, f.version] for f in self.files],
            "others": {split: [[f.name, f.size, f.version] for f in files] for split, files in self.others.items()},
        }


def open_files(config: IngestConfig) -> Source:
    """A folder (or one file) of Parquet on local disk or S3.

    S3 credentials and endpoint come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).
    """
    url = absolute(config.source)
    try:
        fs, root = url_to_fs(url)
        found = listed(fs, root)
    except transport_errors(url) as error:
        raise SourceError(
            f"Cannot list {url}: {error}.", "Check the URL, credentials and AWS_ENDPOINT_URL."
        ) from error
    if [file.path for file in found] == [root]:  # the source is a file
        root = root.rpartition("/")[0]
    local = isinstance(fs, LocalFileSystem)
    files = [
        SourceFile(
            file.path.removeprefix(f"{root}/"),
            file.path if local else fs.unstrip_protocol(file.path),
            file.size,
            file.version,
        )
        for file in found
        if file.path.endswith(".parquet")
    ]
    return split_source(url, config.split, files)


def split_source(url: str, split: str, files: Sequence[SourceFile]) -> Source:
    """One split of the listed files, with the others beside it; raises SourceError as `of_split`."""
    chosen = of_split(files, split, url)
    others: dict[str, list[SourceFile]] = {}
    for file in sorted(files, key=lambda file: file.name):
        other = split_of(file.name)
        if other and _base(other) != _base(split) and split_of(chosen[0].name):
            others.setdefault(other, []).append(file)
    return Source(url, split, chosen, others)


def of_split(files: Sequence[SourceFile], split: str, url: str) -> list[SourceFile]:
    """The files of one split, in name order.

    A split is named by the start of a file or folder name (`train-00000.parquet`, `train/0.parquet`). Where no name
    says a split, every file belongs to the one asked for.

    Raises:
        SourceError: no files, or names that say other splits only.
    """
    if not files:
        raise SourceError(f"{url} holds no Parquet files.", "Give a folder with *.parquet in the Pick-a-Pic schema.")
    named = {file.name: name for file in files if (name := split_of(file.name))}
    if not named:
        return sorted(files, key=lambda file: file.name)
    chosen = [file for file in files if named.get(file.name) == split]
    if not chosen:
        raise SourceError(
            f"{url} has no files of split {split!r}.", f"Choose split={' or '.join(sorted(set(named.values())))}."
        )
    return sorted(chosen, key=lambda file: file.name)


def split_of(name: str) -> str | None:
    """The split a relative file name says (`data/train-0.parquet` -> "train"), None when it says none."""
    for part in reversed(name.split("/")):
        if match := _SPLIT.match(part):
            return match.group(0)
    return None


def _base(split: str) -> str:
    """`validation_unique`, `valid`, `val` and `dev` are all cut from one split; so are `test` and `test_unique`."""
    base = split.partition("_")[0]
    return "validation" if base in ("valid", "val", "dev") else base
