"""`python -m deploy.pins STORE`: have a store's pins (pipeline_lib/pins.py) agree with MLflow's registry.

`register` pins what it publishes. Here versions get their pins that were registered without, and pins are removed
whose versions were deleted since.
"""

import argparse
import sys
from collections.abc import Iterator

import mlflow
from mlflow import MlflowClient

from pipeline_lib import pins
from pipeline_lib.errors import DatasetUnfinishedError, PipelineError
from pipeline_lib.store import Dataset, absolute, open_dataset
from pipeline_lib.store_tools import datasets
from tasks.champion import EVALUATION_DIGEST, MODEL_DATASET, MODEL_DIGEST
from tasks.tracking import client


def wanted(server: MlflowClient, store: str) -> Iterator[tuple[str, list[Dataset]]]:
    """Every registered model's name with the datasets in the store of each of its versions."""
    evaluations = {found.digest: found for found in datasets(store, "evaluate")}
    for model in server.search_registered_models():
        for version in server.search_model_versions(f"name = '{model.name}'"):
            tags = dict(version.tags)
            found = []
            if MODEL_DATASET in tags:
                try:
                    trained = open_dataset(f"{store}/{tags[MODEL_DATASET]}")
                except DatasetUnfinishedError:  # of another store
                    continue
                found += [trained] if trained.digest == tags.get(MODEL_DIGEST) else []
            if judged := evaluations.get(tags.get(EVALUATION_DIGEST, "")):
                found.append(judged)
            if found:
                yield model.name, found


def agree(server: MlflowClient, store: str) -> tuple[list[Dataset], list[Dataset]]:
    """Write the pins that are missing, remove those of versions that are gone; returns both.

    Raises:
        StoreError: the store cannot be read or written.
        MlflowException: the registry does not answer; nothing is removed then.
    """
    present = {found.key: found for found in datasets(store, pins.STAGE)}
    needed = {found.key: found for name, made_of in wanted(server, store) for found in pins.pin(name, made_of)}
    gone = [found for key, found in present.items() if key not in needed]
    for found in gone:
        pins.unpin(found)
    return [found for key, found in needed.items() if key not in present], gone


def main() -> int:
    """Print what was pinned and unpinned."""
    parser = argparse.ArgumentParser(prog="python -m deploy.pins", description="Pin what registered models rest on.")
    parser.add_argument("store", help="folder or fsspec URL")
    store = absolute(parser.parse_args().store)
    try:
        made, gone = agree(client(), store)
    except (PipelineError, mlflow.MlflowException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for verb, found in (("pinned", made), ("unpinned", gone)):
        for one in found:
            print(f"{verb} {one.config['name']}: {', '.join(source['uri'] for source in one.inputs)}")
    print(f"{len(made)} pinned, {len(gone)} unpinned")
    return 0


if __name__ == "__main__":
    sys.exit(main())
