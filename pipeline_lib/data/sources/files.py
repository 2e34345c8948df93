"""The file list that every source comes down to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.core.errors import SourceError
from pipeline_lib.core.transport import transport_errors
from pipeline_lib.data.sources import columns
from pipeline_lib.data.sources.splits import listed, of_split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceFile:
    """One Parquet file of a source: `version` changes whenever its content does (ETag, commit, hash, or mtime)."""

    name: str
    uri: str
    size: int
    version: str

    @property
    def partitions(self) -> dict[str, str | None]:
        """Columns that the folders of the file's name say, the same in all of its rows."""
        return columns.partitions(self.name)

    def open(self) -> IO[bytes]:
        """The file, opened for random access; raises SourceError when it cannot be."""
        try:
            if self.uri.startswith("/"):
                return Path(self.uri).open("rb")
            # Not `fsspec.open`, which takes a name with "::" for a chain of URLs.
            return fsspec.filesystem(self.uri.partition("://")[0]).open(self.uri, "rb")
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


def split_source(url: str, split: str, files: Sequence[SourceFile]) -> Source:
    """One split of the listed files, with the others beside it.

    Raises:
        SourceError: no files, none of this split, or some that say no split beside others that do.
    """
    if not files:
        raise SourceError(f"{url} holds no Parquet files.", "Give a folder with *.parquet in the Pick-a-Pic schema.")
    chosen, others, unnamed = of_split(files, split, url)
    if unnamed and (of_pairs := _may_be_pairs(unnamed, chosen[0])):
        raise SourceError(
            f"{url} has files whose names say a split, and {len(of_pairs)} whose names say none: {listed(of_pairs)}.",
            "Move them into a folder named by their split (train/, validation/, test/), or out of the source.",
        )
    return Source(url, split, chosen, others)


def _may_be_pairs(unnamed: Sequence[SourceFile], pairs: SourceFile) -> Sequence[SourceFile]:
    """Files that could be pairs like `pairs`; tables of something else, such as scores, are left out and logged."""
    wanted = {*columns.REQUIRED, *columns.IMAGES}
    if not wanted & set(_column_names(pairs) or ()):
        return unnamed
    found = {file.name: _column_names(file) for file in unnamed}
    foreign = [file for file in unnamed if (names := found[file.name]) is not None and not wanted & set(names)]
    if foreign:
        logger.warning("left out, as tables of something else than pairs: %s", listed(foreign))
    return [file for file in unnamed if file not in foreign]


def _column_names(file: SourceFile) -> list[str] | None:
    """The columns of a Parquet file; None where it is damaged."""
    try:
        with file.open() as handle:
            return [*pq.read_schema(handle).names, *file.partitions]
    except (pa.ArrowException, OSError):
        return None
