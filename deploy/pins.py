"""`python -m deploy.pins STORE`: have a store's pins (pipeline_lib/core/pins.py) agree with MLflow's registry.

`register` pins what it publishes. Here versions get their pins that were registered without, and pins are removed
whose versions were deleted since.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence

import mlflow
from mlflow import MlflowClient

from pipeline_lib.core import pins
from pipeline_lib.core.errors import PipelineError
from pipeline_lib.core.store import Dataset, absolute
from pipeline_lib.core.store.listing import folders
from pipeline_lib.evaluation.stage import STAGE as EVALUATION
from tasks.champion import EVALUATION_DIGEST, MODEL_DATASET, MODEL_DIGEST
from tasks.tracking import client

logger = logging.getLogger(__name__)


def wanted(server: MlflowClient, found: Sequence[Dataset]) -> Iterator[tuple[str, list[Dataset]]]:
    """Every registered model's name with those of the datasets `found` that each of its versions rests on."""
    evaluations = {one.digest: one for one in found if one.stage == EVALUATION}
    models = {(one.path(), one.digest): one for one in found}
    for model in server.search_registered_models():
        for version in server.search_model_versions(f"name = '{model.name}'"):
            tags = dict(version.tags)
            trained = models.get((tags.get(MODEL_DATASET, ""), tags.get(MODEL_DIGEST, "")))
            judged = evaluations.get(tags.get(EVALUATION_DIGEST, ""))
            if made_of := [one for one in (trained, judged) if one]:
                yield model.name, made_of


def agree(server: MlflowClient, store: str) -> tuple[list[Dataset], list[Dataset]]:
    """Write the pins that are missing, remove those of versions that are gone; returns both.

    Nothing is removed while a manifest of the store cannot be read: it may be that of a registered model.

    Raises:
        StoreError: the store cannot be read or written.
        MlflowException: the registry does not answer; nothing is removed then.
    """
    listed = folders(store)
    found = [folder.dataset for folder in listed if folder.dataset]
    unreadable = [folder.problem for folder in listed if folder.problem]
    for problem in unreadable:
        logger.warning("nothing is unpinned: %s", problem)
    present = {one.key: one for one in found if one.stage == pins.STAGE}
    needed = {pin.key: pin for name, made_of in wanted(server, found) for pin in pins.pin(name, made_of)}
    gone = [] if unreadable else [pin for key, pin in present.items() if key not in needed]
    for pin in gone:
        pins.unpin(pin)
    return [pin for key, pin in needed.items() if key not in present], gone


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
