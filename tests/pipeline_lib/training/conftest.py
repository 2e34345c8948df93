from pathlib import Path

import pytest

from pipeline_lib.encoding import encode
from pipeline_lib.store import Dataset
from tests.pipeline_lib.models import tiny


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror with the tiny base models."""
    folder = tmp_path_factory.mktemp("mirror")
    tiny.write_all(folder)
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def encoded(mirror: Path, store: str) -> dict[str, Dataset]:
    """The ingested dataset, encoded by every tiny base model."""
    ingested = tiny.ingest(store)
    return {name: encode(store, tiny.base(mirror, name), tiny.ENCODE, ingested) for name in tiny.NAMES}


@pytest.fixture(scope="session")
def labels(store: str) -> dict[str, Dataset]:
    """Labels of the ingested dataset, by kind."""
    return {kind: tiny.label(store, tiny.ingest(store), kind) for kind in ("human", "soft", "dedpo")}
