"""MLflow in a SQLite file, for what needs no server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from tasks import tracking


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without entries, to be copied: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture(scope="module")
def server(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    """What the tracking address of this process leads to; the working directory and the state's folder are its own."""
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_database, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("PIPELINE_STATE", str(folder / "state"))
        patch.chdir(folder)  # artifacts of a SQLite store go below the working directory
        yield tracking.client()
    mlflow.set_tracking_uri(None)
