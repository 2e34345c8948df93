"""Writing a dataset: shard by shard, each in one move, and the manifest last."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline_lib import __version__
from pipeline_lib.core import code
from pipeline_lib.core.digest import digest, file_sha256
from pipeline_lib.core.disk import space
from pipeline_lib.core.errors import DatasetCorruptError, StoreError
from pipeline_lib.core.permissions import make_folders, share
from pipeline_lib.core.store import begun
from pipeline_lib.core.store.dataset import Dataset, open_dataset
from pipeline_lib.core.store.manifest import KEY_LENGTH, MANIFEST, Manifest, Shard, content_digest, manifest_text
from pipeline_lib.core.store.places import absolute, access
from pipeline_lib.core.transport import transport_errors

logger = logging.getLogger(__name__)

COUNTS_KEY = b"pipeline.counts"
ROW_GROUP_BYTES = 64 << 20
"""Parquet holds a row group in memory while it is written, and readers while they decode it."""


@dataclass(frozen=True)
class DatasetWriter:
    """Writes one dataset. Holds no state but the question, so any process may write any shard at any time."""

    uri: str
    stage: str
    key: str
    config: Mapping[str, Any]
    inputs: Sequence[Mapping[str, str]]
    code: Mapping[str, str] = field(default_factory=dict)
    """The stage's modules here (`code.modules`); none where a stage says nothing of them."""
    keys: Sequence[str] = ()
    """Every key under which the question may have been answered, the first one preferred; none means `key` alone."""
    force: bool = False
    """Whether what other code made is no answer."""

    def path(self) -> str:
        """`stage/key`, as of the dataset that it will be."""
        return f"{self.stage}/{self.key}"

    def finished(self) -> Dataset | None:
        """The dataset that answers the question, if one has been committed; one that other code made only if not
        `force`, and the log says so."""
        for key in self.keys or (self.key,):
            uri = f"{self.uri.removesuffix(self.key)}{key}"
            fs, root = url_to_fs(uri)
            with access(uri):
                found = open_dataset(uri) if fs.exists(f"{root}/{MANIFEST}") else None
            other = bool(found and self.code and code.differing(found.code, self.code))
            if found is None or (other and self.force):
                continue
            if other:
                code.say_other(found.path(), found.code, self.code)
            return found
        return None

    def tables_there(self) -> int:
        """How many tables an earlier run has left, by one listing; whether each can be read, `existing` finds out."""
        fs, root = url_to_fs(self.uri)
        with access(self.uri):
            return len([path for path in fs.find(root) if path.endswith(".parquet")]) if fs.exists(root) else 0

    def existing(self, path: str) -> Shard | None:
        """The shard at `path` if an earlier run published it.

        That is atomic, but a machine that loses power can leave an empty file under the final name: a table that is
        not readable is not there, and is written again.
        """
        fs, root = url_to_fs(self.uri)
        with access(self.uri), tempfile.TemporaryDirectory() as scratch:
            if not fs.exists(f"{root}/{path}"):
                return None
            local = Path(root, path)
            if not isinstance(fs, LocalFileSystem):
                local = Path(scratch, "shard")
                fs.get_file(f"{root}/{path}", str(local))
            try:
                found = _describe(local, path)
            except DatasetCorruptError:
                return None
        self._begin(shards=True)
        return found

    def write_table(
        self, path: str, table: pa.Table, counts: Mapping[str, int] | None = None, distinct: Collection[str] = ()
    ) -> Shard:
        """Publish an Arrow table as a Parquet shard. `counts` (kept, dropped by reason) are summed in the manifest.

        `distinct`: columns whose values hardly repeat; a dictionary of them would cost time and space.
        """
        metadata = {**(table.schema.metadata or {}), COUNTS_KEY: json.dumps(counts or {}, sort_keys=True).encode()}
        # Encoded images: neither compression nor a dictionary makes them smaller, both cost more than the write.
        images = {field.name for field in table.schema if pa.types.is_binary(field.type)}
        others = [name for name in table.column_names if name not in images and name not in distinct]
        options = {
            "compression": {name: "none" if name in images else "zstd" for name in table.column_names},
            "use_dictionary": True if others == table.column_names else others,
            "row_group_size": max(1, len(table) * ROW_GROUP_BYTES // max(table.nbytes, ROW_GROUP_BYTES)),
        }
        self._begin()
        return self._publish(
            path, lambda file: pq.write_table(table.replace_schema_metadata(metadata), file, **options), table.nbytes
        )

    def write_bytes(self, path: str, content: bytes) -> Shard:
        """Publish a small file (report, configuration)."""
        self._begin()
        return self._publish(path, lambda file: Path(file).write_bytes(content), len(content))

    def write_folder(self, path: str, folder: Path) -> list[Shard]:
        """Publish every file below a local folder (model weights) under `path`."""
        files = sorted(f for f in folder.rglob("*") if f.is_file())
        return [self.write_file(f"{path}/{f.relative_to(folder).as_posix()}", f) for f in files]

    def write_file(self, path: str, file: Path) -> Shard:
        """Publish a copy of a local file."""
        self._begin()
        return self._publish(path, lambda target: _copy(file, Path(target)), file.stat().st_size)

    def discard(self, folder: str) -> None:
        """Remove a folder of intermediate files as far as possible; a committed dataset does not consist of them."""
        fs, root = url_to_fs(self.uri)
        with contextlib.suppress(
            *transport_errors(self.uri)
        ):  # gone already, or another run of the same question still writes there
            fs.rm(f"{root}/{folder}", recursive=True)

    def commit(self, shards: Iterable[Shard], counts: Mapping[str, int] | None = None) -> Dataset:
        """Write the manifest; the dataset exists from here on. Totals are the shards' counts plus `counts`."""
        began = begun.read(self.uri) if self.code else None
        ordered = sorted(shards, key=lambda shard: shard.path)
        totals: Counter[str] = Counter(counts or {})
        for shard in ordered:
            totals.update(shard.counts)
        manifest = Manifest(
            stage=self.stage,
            key=self.key,
            digest=content_digest(ordered),
            config=self.config,
            inputs=list(self.inputs),
            shards=ordered,
            counts=dict(sorted(totals.items())),
            created=time.time(),
            code={code.RELEASE: __version__, **(self.code if began is None else began)},
        )
        text = manifest_text(manifest)
        self._publish(MANIFEST, lambda file: Path(file).write_text(text), len(text))
        if began is not None:
            begun.end(self.uri)
        return open_dataset(self.uri)

    def _begin(self, shards: bool = False) -> None:
        """Note by which code the dataset begins (begun.py)."""

        def write(content: bytes) -> None:
            self._publish(begun.BEGUN, lambda file: Path(file).write_bytes(content), len(content))

        begun.begin(self.uri, self.path(), self.code, write, shards)

    def _publish(self, path: str, write: Any, size: int) -> Shard:
        """Write to a temporary name and move into place (one PUT on object stores), so no reader sees half a file.

        Args:
            size: bytes to be written, about; for the error of a full disk.
        """
        fs, root = url_to_fs(self.uri)
        local = isinstance(fs, LocalFileSystem)
        target, store = Path(root, path), Path(root).parents[1]
        try:
            full = target.parent if local else Path(tempfile.gettempdir())
            with space(full, size), tempfile.TemporaryDirectory() as scratch:
                if local:
                    make_folders(store, target.parent)
                temporary = (
                    target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp") if local else Path(scratch, "shard")
                )
                try:
                    write(str(temporary))
                    shard = _describe(temporary, path)
                    if local:
                        share(store, temporary)
                        os.replace(temporary, target)
                    else:
                        fs.put_file(str(temporary), f"{root}/{path}")
                finally:
                    temporary.unlink(missing_ok=True)
        except transport_errors(self.uri) as error:
            raise StoreError(
                f"Cannot write {self.uri}/{path}: {error}.",
                "Check free space, permissions, credentials and the endpoint.",
            ) from error
        return shard


def writer(
    store: str,
    stage: str,
    version: int,
    config: Any,
    inputs: Sequence[Dataset] = (),
    *,
    identity: Any = None,
    formerly: Any = None,
    modules: Sequence[str] = (),
) -> DatasetWriter:
    """The writer of the one dataset that answers (stage, schema version, config, inputs) in `store`.

    Args:
        store: folder or URL of S3 (`s3://bucket/prefix`).
        stage: name of the stage; becomes a folder.
        version: raise it when the stage's output changes for the same config.
        config: JSON-like values or a dataclass; everything that decides the output and nothing else.
        inputs: the datasets read; their digests are part of the key, so a changed input is a new question.
        identity: what of `config` is in the key (identity.py); None means all of it.
        formerly: what was in it before that rule; None means all of `config`. A dataset of that key is an answer, too.
        modules: names of the modules that make the dataset; what these import is found (code.py).
    """
    plain = _plain(config)
    digests = [source.digest for source in inputs]

    def key_of(question: Any) -> str:
        return digest([stage, version, question, digests], KEY_LENGTH)

    key = key_of(plain if identity is None else _plain(identity))
    keys = [key] if identity is None else [key, key_of(plain if formerly is None else _plain(formerly))]
    found, force = code.modules(*modules), bool(modules) and code.forced()
    if found:
        keys = [digest([key, found], KEY_LENGTH), *keys]  # what `code.recomputing` has had made by this very code
        key = keys[0] if force else key
    lineage = [{"uri": source.path(), "digest": source.digest} for source in inputs]
    logger.debug("working on %s/%s", stage, key, extra={"dataset": f"{stage}/{key}"})
    uri = f"{absolute(store)}/{stage}/{key}"
    return DatasetWriter(
        uri, stage, key, plain, lineage, found, () if keys == [key] else tuple(dict.fromkeys(keys)), force
    )


def _plain(config: Any) -> Any:
    """Settings as their JSON gives them back."""
    return json.loads(json.dumps(asdict(config) if hasattr(config, "__dataclass_fields__") else config))


def _describe(local: Path, path: str) -> Shard:
    rows, counts = 0, {}
    if path.endswith(".parquet"):
        try:
            metadata = pq.read_metadata(local)
            counts = json.loads((metadata.metadata or {}).get(COUNTS_KEY, b"{}"))
        except (OSError, ValueError) as error:  # Arrow's is a ValueError
            raise DatasetCorruptError(
                f"{path} is not readable Parquet: {error}.", f"Delete {local} and run the stage again."
            ) from error
        rows = metadata.num_rows
    return Shard(path, rows, local.stat().st_size, file_sha256(local), counts)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as out:
        while chunk := reader.read(1 << 20):
            out.write(chunk)
