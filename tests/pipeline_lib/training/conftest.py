from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.store import Dataset
from pipeline_lib.encoding.stage import encode
from pipeline_lib.training.launch.spec import TrainSpec
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


@pytest.fixture
def new_run(
    mirror: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset], tmp_path: Path
) -> Callable[..., TrainSpec]:
    """`new_run(config, run, base, kind, sharding, **changes)`: a run with `changes` to the config, on a tiny base.

    Its folder is `run` in the test's; `kind` of labels defaults to what the method trains on.
    """

    def build(
        config: TrainConfig,
        run: str = "run",
        base: str = "v",
        kind: str = "",
        sharding: Literal["none", "fsdp"] = "none",
        **changes: Any,
    ) -> TrainSpec:
        config = replace(config, **changes)
        kind = kind or ("dedpo" if config.method == "dedpo" else "human")
        return TrainSpec(
            model=tiny.base(mirror, base),
            train=config,
            encoded=encoded[base].uri,
            labels=labels[kind].uri,
            run_dir=str(tmp_path / run),
            sharding=sharding,
        )

    return build
