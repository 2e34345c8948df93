"""Where datasets come from: followed through the inputs of their manifests, down to those that read a source."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from pipeline_lib.core.errors import DatasetUnfinishedError, ManifestError
from pipeline_lib.core.store import Dataset, open_dataset

logger = logging.getLogger(__name__)


def lineage(datasets: Iterable[Dataset]) -> list[Dataset]:
    """The datasets and all that they were made from, each once, results before their inputs' inputs.

    An input is looked for in the store of the dataset that names it. One that is gone from there, has another digest
    now or a manifest that cannot be read, is left out; `inputs` of the dataset made from it tells its name and digest.

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
            except ManifestError as error:
                logger.warning("left out of the lineage: %s", error.problem)
                continue
            if opened.digest == source["digest"]:
                waiting.append(opened)
    return list(found.values())


def store_of(dataset: Dataset) -> str:
    """The URL of the store that a dataset lies in."""
    return dataset.uri.removesuffix(f"/{dataset.path()}")
