"""What lies in a store: every dataset's folder, also those that cannot be read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from pipeline_lib.core.errors import DatasetUnfinishedError, ManifestError, StoreError
from pipeline_lib.core.store.dataset import Dataset, open_dataset
from pipeline_lib.core.store.manifest import KEY_LENGTH, LIMIT, MANIFEST, named_inputs
from pipeline_lib.core.store.places import absolute, access
from pipeline_lib.core.transport import transport_errors

_DATASET = re.compile(rf"^(?P<path>.+?/[0-9a-f]{{{KEY_LENGTH}}})/(?P<file>.+)$")


@dataclass(frozen=True)
class Folder:
    """A dataset's folder.

    Attributes:
        path: `stage/key`, relative to the store.
        files: what the file system says of each file, by path within the folder.
        dataset: None when it is not finished, or cannot be read.
        inputs: the datasets (`stage/key`) that it was made from, as far as its manifest tells.
        problem: why it cannot be read; "" otherwise.
    """

    path: str
    files: Mapping[str, Mapping[str, Any]]
    dataset: Dataset | None = None
    inputs: Collection[str] = ()
    problem: str = ""


def folders(store: str) -> list[Folder]:
    """The datasets' folders of a store; raises StoreError when it cannot be listed or read."""
    root_url = absolute(store)
    return [_folder(f"{root_url}/{path}", path, files) for path, files in _files(root_url).items()]


def _folder(uri: str, path: str, files: Mapping[str, Mapping[str, Any]]) -> Folder:
    if MANIFEST not in files:
        return Folder(path, files)
    try:
        dataset = open_dataset(uri)
    except DatasetUnfinishedError:  # it is being deleted
        return Folder(path, files)
    except ManifestError as error:
        return Folder(path, files, inputs=_named_inputs(uri), problem=error.problem)
    return Folder(path, files, dataset, {source["uri"] for source in dataset.inputs})


def _named_inputs(uri: str) -> set[str]:
    try:
        with access(uri), fsspec.open(f"{uri}/{MANIFEST}", "rb").open() as file:
            return named_inputs(file.read(LIMIT))
    except FileNotFoundError:  # it is being deleted
        return set()


def _files(root_url: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Files with what the file system says of them, by dataset (`stage/key`) and path within it."""
    found: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    try:
        fs, root = url_to_fs(root_url)
        fs.invalidate_cache()
        for name, info in fs.find(root, detail=True).items():
            if match := _DATASET.match(name.removeprefix(f"{root}/")):
                found[match["path"]][match["file"]] = info
    except transport_errors(root_url) as error:
        raise StoreError(
            f"Cannot list {root_url}: {error}.", "Check permissions, credentials and endpoint."
        ) from error
    return found
