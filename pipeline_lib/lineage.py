"""Where datasets come from: followed through the inputs of their manifests, down to those that read a source."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline_lib.errors import DatasetUnfinishedError
from pipeline_lib.store import Dataset, open_dataset


def lineage(datasets: Iterable[Dataset]) -> list[Dataset]:
    """The datasets and all that they were made from, each once, results before their inputs' inputs.

    An input is looked for in the store of the dataset that names it. One that is gone from there, or has another
    digest now, is left out; `inputs` of the dataset made from it still tells its name and digest.

    Raises:
        StoreError: the store cannot be read.
    """
    found: dict[tuple[str, str], Dataset] = {}
    waiting = deque(datasets)
    while waiting:
        dataset = waiting.popleft()
        if (dataset.path(), dataset.digest) in found:
            continue
        found[dataset.path(), dataset.digest] = dataset
        for source in dataset.inputs:
            try:
                opened = open_dataset(f"{store_of(dataset)}/{source['uri']}")
            except DatasetUnfinishedError:
                continue
            if opened.digest == source["digest"]:
                waiting.append(opened)
    return list(found.values())


def store_of(dataset: Dataset) -> str:
    """The URL of the store that a dataset lies in."""
    return dataset.uri.removesuffix(f"/{dataset.path()}")
