"""A finished dataset, for reading. Whatever is read through it is verified first."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline_lib.core.cache import copy_folder
from pipeline_lib.core.disk import space
from pipeline_lib.core.errors import DatasetCorruptError, DatasetUnfinishedError, ManifestError, StoreError, excerpt
from pipeline_lib.core.store import verification
from pipeline_lib.core.store.manifest import AGAIN, LIMIT, MANIFEST, Manifest, Shard, read_manifest
from pipeline_lib.core.store.places import absolute, access


@dataclass(frozen=True, kw_only=True)
class Dataset(Manifest):
    """A finished dataset: its absolute location and what its manifest says."""

    uri: str

    def tables(self, table: str = "") -> list[Shard]:
        """The Parquet shards of one table (`pairs/part-00000.parquet` belongs to "pairs"), in order."""
        return [s for s in self.shards if s.path.endswith(".parquet") and os.path.dirname(s.path) == table]

    def scan(self, table: str = "") -> pl.LazyFrame:
        """A lazy Polars frame over all shards of a table; raises StoreError when there are none."""
        shards = self.tables(table)
        if not shards:
            raise self._lacks(f"table {table!r}")
        return pl.scan_parquet(self._local(shards), glob=False)

    def read(self, shard: Shard, columns: list[str] | None = None) -> pa.Table:
        """One shard as an Arrow table, with the metadata it was written with."""
        with self.open(shard.path) as file:
            return pq.read_table(file, columns=columns)

    def open(self, path: str) -> IO[bytes]:
        """A file of the dataset, opened for reading."""
        shard = next((shard for shard in self.shards if shard.path == path), None)
        if shard is None:
            raise self._lacks(f"file {path!r}")
        fs, root = url_to_fs(self.uri)
        try:
            with access(self.uri):
                return verification.opened(fs, f"{root}/{path}", shard)
        except (FileNotFoundError, ValueError) as error:
            raise self.corrupt([path]) from error

    def peek(self, path: str) -> IO[bytes]:
        """A file opened for a look at a little of it, not verified: for pages that show samples, nothing else."""
        try:
            with access(self.uri):
                return fsspec.open(f"{self.uri}/{path}", "rb").open()
        except FileNotFoundError as error:
            raise self.corrupt([path]) from error

    def local(self, folder: str = "") -> Path:
        """A local folder with the dataset's files under `folder`, and no others; remote ones are copied there once.

        A copy stays for as long as the process that asked for it lives.
        """
        shards = [shard for shard in self.shards if not folder or shard.path.startswith(f"{folder}/")]
        self._local(shards)
        fs, root = url_to_fs(self.uri)
        if not isinstance(fs, LocalFileSystem):
            return copy_folder(self.digest) / folder
        there = Path(root)
        if strays := _files(there, folder) - {MANIFEST, *(shard.path for shard in shards)}:
            raise DatasetCorruptError(
                f"{self.uri} holds files that its {MANIFEST} does not name: {', '.join(sorted(strays)[:5])}.",
                "Take them away: a model with them is another one.",
            )
        return there / folder

    def _local(self, shards: Sequence[Shard]) -> list[Path]:
        """Verified files on this machine: where they are or, of a remote dataset, copies of them."""
        fs, root = url_to_fs(self.uri)
        here = isinstance(fs, LocalFileSystem)
        with space(Path(tempfile.gettempdir())):
            folder = Path(root) if here else copy_folder(self.digest)
        found = []
        for shard in shards:
            target = folder / shard.path
            with access(self.uri):
                right = verification.is_right(LocalFileSystem(), str(target), shard)
                if not right and not here:
                    right = _copied(fs, f"{root}/{shard.path}", shard, target)
            if not right:
                raise self.corrupt([shard.path])
            found.append(target)
        return found

    def _lacks(self, what: str) -> StoreError:
        return StoreError(f"{self.uri} has no {what}.", f"It holds: {excerpt([shard.path for shard in self.shards])}.")

    def corrupt(self, paths: Sequence[str]) -> DatasetCorruptError:
        """The error about files that are missing or not those that were written."""
        return DatasetCorruptError(
            f"{self.uri}: {len(paths)} of {len(self.shards)} files are missing or not those that its {MANIFEST} "
            f"names: {', '.join(paths[:5])}.",
            AGAIN,
        )

    def path(self) -> str:
        """`stage/key`: the location relative to the store, the same wherever the store is."""
        return f"{self.stage}/{self.key}"


def open_dataset(uri: str) -> Dataset:
    """Read a finished dataset's manifest.

    Raises:
        DatasetUnfinishedError: there is none.
        ManifestError: it cannot be read, or is another dataset's.
        ConfigError: a URL that no store is on.
    """
    given, uri = uri, absolute(uri)
    name = f"{uri}/{MANIFEST}"
    try:
        with access(uri), fsspec.open(name, "rb").open() as file:
            found = read_manifest(file.read(LIMIT + 1), name)
    except FileNotFoundError as error:
        raise DatasetUnfinishedError(
            f"No finished dataset at {uri}: it has no {MANIFEST}.",
            "Run the stage that writes it; it continues where it stopped.",
        ) from error
    place = f"{found.stage}/{found.key}"
    if not any(f"/{where}".endswith(f"/{place}") for where in (uri, given.rstrip("/"))):
        raise ManifestError(
            f"{name} is that of another dataset, {place}.",
            f"Move that dataset to <store>/{place}, and run this folder's stage again.",
        )
    return Dataset(uri=uri, **vars(found))


def check(dataset: Dataset) -> None:
    """Verify what this process has not verified before; raises DatasetCorruptError naming the wrong files."""
    fs, root = url_to_fs(dataset.uri)
    with access(dataset.uri):
        bad = [s.path for s in dataset.shards if not verification.is_right(fs, f"{root}/{s.path}", s)]
    if bad:
        raise dataset.corrupt(bad)


def verify(dataset: Dataset) -> None:
    """Read every file again, whatever is remembered; raises DatasetCorruptError naming the wrong ones."""
    verification.forget()
    check(dataset)


def _copied(fs: Any, source: str, shard: Shard, target: Path) -> bool:
    """Download a remote file to `target`; False when there is none, or it is not the shard."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        fs.get_file(source, str(temporary))
        if not verification.is_right(LocalFileSystem(), str(temporary), shard):
            return False
        os.replace(temporary, target)
    except FileNotFoundError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _files(root: Path, folder: str) -> set[str]:
    """The files below a folder that a loader may find; not hidden ones, which writers that were killed leave."""
    below = (path for path in (root / folder).rglob("*") if path.is_file() or path.is_symlink())
    names = {path.relative_to(root).as_posix() for path in below}
    return {name for name in names if not any(part.startswith(".") for part in name.split("/"))}
