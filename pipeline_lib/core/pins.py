"""Pins: datasets of the stage `registered` that hold on to what a registered model rests on.

A pin has no files, only inputs: the model and its evaluation. What they were made from is named by their own inputs,
so that `store_tools.garbage` offers none of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fsspec.core import url_to_fs

from pipeline_lib.core.errors import StoreError
from pipeline_lib.core.lineage import store_of
from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.core.transport import transport_errors

STAGE = "registered"
VERSION = 1


def pin(name: str, datasets: Sequence[Dataset]) -> list[Dataset]:
    """Hold on to the datasets of registered model `name`, each in its own store; returns the pins."""
    pins = []
    for store in dict.fromkeys(store_of(dataset) for dataset in datasets):
        own = [dataset for dataset in datasets if store_of(dataset) == store]
        target = writer(store, STAGE, VERSION, {"name": name}, own)
        pins.append(target.finished() or target.commit([]))
    return pins


def unpin(found: Dataset) -> None:
    """Remove a pin; raises StoreError when that cannot be done."""
    try:
        fs, root = url_to_fs(found.uri)
        fs.rm(root, recursive=True)
    except transport_errors(found.uri) as error:
        raise StoreError(f"Cannot remove {found.uri}: {error}.", "Check permissions and credentials.") from error
