"""What a completed `align/shapes` has left: in the store, in MLflow, in the ingest's counts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from fsspec.core import url_to_fs
from mlflow import MlflowClient
from mlflow.entities import ViewType

from pipeline_lib.core.digest import digest, file_sha256
from pipeline_lib.core.store import KEY_LENGTH, MANIFEST, open_dataset, verify
from pipeline_lib.training.launch.publish import TIMING_FIELDS
from tasks.register import EVALUATION_RUN
from tests.chaos.site import Site

NAME = "balanced-shapes"
TIMING = {f"train/{name}" for name in TIMING_FIELDS}


@dataclass(frozen=True)
class Evidence:
    """What must not depend on who was killed; `strays` must be empty."""

    stages: Mapping[str, str]
    """Stage -> digest, as the flow's table has them."""
    datasets: Mapping[str, str]
    """`stage/key` -> digest, for every dataset of the store, each file of it hashed again."""
    strays: list[str]
    """Files of the store that no manifest knows."""
    counts: Mapping[str, int]
    """What ingest kept, dropped and put into quarantine."""
    curves: Mapping[str, list[tuple[int, float | None]]]
    """Metric -> (step, value) as logged; timings without values."""
    params: Mapping[str, str]
    """Of the MLflow run."""
    artifacts: list[str]
    """Files of the MLflow run."""
    model: Mapping[str, str]
    """File -> hash, as `models:/...@candidate` is pulled."""
    registry: Mapping[str, Any]
    """Versions with aliases and tags; files that were logged as models, with status."""
    status: str
    """The MLflow run's."""


def gather(site: Site, run: Mapping[str, Any], store: str) -> Evidence:
    """Read all of it; raises DatasetCorruptError where bytes are not the manifest's."""
    stages = site.deployments.stages(run)
    server = MlflowClient(site.settings.mlflow_url)
    datasets, strays = datasets_in(store)
    key = stages["train"]["uri"].rpartition("/")[2]
    (logged,) = server.search_runs(_experiments(server), f"tags.`pipeline.model_key` = '{key}'")
    run_id = logged.info.run_id
    return Evidence(
        stages={stage: row["digest"] for stage, row in stages.items()},
        datasets=datasets,
        strays=strays,
        counts=dict(open_dataset(stages["ingest"]["uri"]).counts),
        curves={name: _curve(server, run_id, name) for name in sorted(logged.data.metrics)},
        params=logged.data.params,
        artifacts=_files(server, run_id),
        model=_pulled(site),
        registry=_registered(server),
        status=logged.info.status,
    )


def forget(site: Site) -> None:
    """Delete the model and its runs in MLflow: a round begins without a champion and without curves."""
    server = MlflowClient(site.settings.mlflow_url)
    server.delete_registered_model(NAME)
    for model in _logged_models(server):
        server.delete_logged_model(model.model_id)
    for run in server.search_runs(_experiments(server)):
        server.delete_run(run.info.run_id)


def open_runs(site: Site) -> list[str]:
    """MLflow runs that claim to be running."""
    server = MlflowClient(site.settings.mlflow_url)
    found = server.search_runs(_experiments(server), "attributes.status = 'RUNNING'", ViewType.ALL)
    return [run.info.run_name for run in found]


def datasets_in(store: str) -> tuple[dict[str, str], list[str]]:
    """The store's datasets with their digests, and files that belong to none; raises DatasetCorruptError."""
    fs, root = url_to_fs(store)
    fs.invalidate_cache()
    files = {path.removeprefix(f"{root}/") for path in fs.find(root)}
    found = {}
    known = set()
    for path in sorted(files):
        parts = path.split("/")
        if parts[-1] == MANIFEST and len(parts[-2]) == KEY_LENGTH:
            dataset = open_dataset(f"{store}/{'/'.join(parts[:-1])}")
            verify(dataset)
            found[dataset.path()] = dataset.digest
            known |= {path, *(f"{dataset.path()}/{shard.path}" for shard in dataset.shards)}
    return found, sorted(files - known)


def _curve(server: MlflowClient, run_id: str, name: str) -> list[tuple[int, float | None]]:
    history = server.get_metric_history(run_id, name)
    return sorted((metric.step, None if name in TIMING else metric.value) for metric in history)


def _files(server: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for entry in server.list_artifacts(run_id, folder):
        found += _files(server, run_id, entry.path) if entry.is_dir else [entry.path]
    return sorted(found)


def _pulled(site: Site) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as scratch:
        mlflow.set_tracking_uri(site.settings.mlflow_url)
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}@candidate", dst_path=scratch))
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(folder).as_posix(): digest(_lines(path)) for path in files}


def _lines(path: Path) -> list[str]:
    """The file's hash, or its lines where MLflow writes names and times of its own into it."""
    if path.name != "MLmodel":
        return [file_sha256(path)]
    return [
        line for line in path.read_text().splitlines() if not line.startswith(("model_uuid:", "utc_time_created:"))
    ]


def _registered(server: MlflowClient) -> dict[str, Any]:
    aliases = server.get_registered_model(NAME).aliases
    versions = {
        # Those of `prefect.` lead to the flow run that registered it, EVALUATION_RUN to a run of this round.
        v.version: {
            tag: value for tag, value in v.tags.items() if not tag.startswith("prefect.") and tag != EVALUATION_RUN
        }
        for v in server.search_model_versions(f"name = '{NAME}'")
    }
    return {
        "versions": versions,
        "aliases": {alias: str(version) for alias, version in aliases.items()},
        "models": sorted(str(model.status) for model in _logged_models(server)),
    }


def _logged_models(server: MlflowClient) -> list[Any]:
    return list(server.search_logged_models(_experiments(server)))


def _experiments(server: MlflowClient) -> list[str]:
    return [experiment.experiment_id for experiment in server.search_experiments()]
