"""MLflow's model registry: versions are complete diffusers folders, found by name, version or alias."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import psutil
from mlflow import MlflowClient
from mlflow.entities import Metric

from pipeline_lib.core.errors import HubError
from tasks.owners import check_owner
from tasks.tracking import client
from tasks.wanted import require_wanted

REGISTRAR = "pipeline.registrar"
"""Tag of logged models: the process that uploads and registers them."""
LOGGED = "models:/m-"
"""How the source of a version begins whose files are a logged model's."""


def register(
    name: str,
    run_id: str,
    folder: Path,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    measured_by: str | None = None,
) -> str:
    """Publish a diffusers folder as the next version of model `name`, alias `candidate`; returns the version.

    A version with the same tags is reused, so registering again changes nothing. Of two processes that register the
    same at the same time, the one whose version is not the first takes its own back.

    Args:
        run_id: the run that trained the model.
        metrics: the version's numbers.
        measured_by: the run that holds them, too; None for `run_id`. In MLflow a run has one value of a metric, so
            versions with numbers of their own need runs of their own.

    Raises:
        HubError: another user took the name.
    """
    server = client()
    check_name(name)
    if find(name, tags) is None:
        experiment_id = server.get_run(run_id).info.experiment_id
        _clear(server, experiment_id, tags)
        model = mlflow.initialize_logged_model(
            name=name,
            source_run_id=run_id,
            tags={**tags, REGISTRAR: _process(os.getpid())},
            model_type="diffusers",
            experiment_id=experiment_id,
        )
        server.log_model_artifacts(model.model_id, str(folder))
        now = int(time.time() * 1000)
        rows = [Metric(k, v, now, 0, model_id=model.model_id) for k, v in metrics.items()]
        server.log_batch(measured_by or run_id, metrics=rows)
        require_wanted(f"register {name}")  # uploading took its time
        server.finalize_logged_model(model.model_id, "READY")
        ours = int(mlflow.register_model(f"models:/{model.model_id}", name, tags=dict(tags)).version)
        # The server numbers versions one after the other, each with its tags: whoever sees its own sees all before it.
        first = str(_like(server, name, tags)[0])
        if first != str(ours):
            server.delete_model_version(name, str(ours))
            # The first is ours, too, when the server died before it answered and the client asked again.
            if logged_model(name, first) != model.model_id:
                server.delete_logged_model(model.model_id)
    version = str(_like(server, name, tags)[0])
    set_alias(name, "candidate", version)
    return version


def find(name: str, tags: Mapping[str, str]) -> str | None:
    """The version of model `name` with these tags whose files are there; None for none."""
    found = _like(client(), name, tags)
    return str(found[0]) if found else None


def versions(name: str) -> list[str]:
    """URIs of the versions of model `name`; none when nothing is registered under that name."""
    return [f"models:/{name}/{found.version}" for found in _versions(client(), name)]


def check_name(name: str) -> None:
    """Raise HubError where another user took the name of a registered model."""
    if client().search_registered_models(f"name = '{name}'"):
        check_owner(f"models:/{name}")


def pinned(uri: str) -> str:
    """A model URI that means the same tomorrow: `models:/<name>/<version>` for an alias and for `.../latest`.

    Raises:
        HubError: the registry has no such model, version or alias, does not answer, or says that it is another user's.
    """
    server = client()
    name, _, alias = uri.removeprefix("models:/").partition("@")
    with _registry_errors(uri):
        check_owner(uri)
        if alias:
            return f"models:/{name}/{server.get_model_version_by_alias(name, alias).version}"
        if uri.startswith("models:/") and uri.endswith("/latest"):
            name = name.removesuffix("/latest")
            found = sorted(int(version.version) for version in _versions(server, name))
            if not found:
                raise mlflow.MlflowException(f"there is no version of {name!r}")
            return f"models:/{name}/{found[-1]}"
    return uri


def made(uri: str) -> list[str]:
    """What tells a registered version `models:/<name>/<version>` from an earlier one of that name and number, of a
    model that was deleted since; empty for other URIs, whose ids are not given again. Raises HubError."""
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    if not uri.startswith("models:/") or not name:
        return []
    with _registry_errors(uri):
        found = client().get_model_version(name, version)
    return [str(found.creation_timestamp), str(found.run_id), str(found.source)]


def download(uri: str, to: Path) -> Path:
    """Where below `to` the files of a model or run artifact (`models:/...`, `runs:/...`) are now; raises HubError."""
    client()
    to.mkdir(parents=True, exist_ok=True)
    with _registry_errors(uri):
        check_owner(uri)
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(to)))


@contextmanager
def _registry_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (mlflow.MlflowException, OSError) as error:
        raise HubError(
            f"Cannot read {uri} from {os.environ.get('MLFLOW_TRACKING_URI')}: {error}.",
            "Check the name, version or alias in MLflow's registry, and that MLFLOW_TRACKING_URI is your server.",
        ) from error


def aliases(name: str) -> dict[str, str]:
    """Alias -> version of a registered model; empty when nothing is registered under that name."""
    found = client().search_registered_models(f"name = '{name}'")
    return {str(alias): str(version) for model in found for alias, version in model.aliases.items()}


def model_tags(name: str) -> dict[str, str]:
    """The tags of a registered model, which outlive its versions; empty when there is no such model."""
    found = client().search_registered_models(f"name = '{name}'")
    return {str(key): str(value) for model in found for key, value in model.tags.items()}


def tag_model(name: str, key: str, value: str) -> None:
    """Set a tag of a registered model."""
    client().set_registered_model_tag(name, key, value)


def set_alias(name: str, alias: str, version: str) -> None:
    """Point an alias at a version."""
    client().set_registered_model_alias(name, alias, version)


def version_tags(name: str, version: str) -> dict[str, str]:
    """The tags of a registered version; empty when there is no such version."""
    return {
        k: v for found in _versions(client(), name) if str(found.version) == version for k, v in found.tags.items()
    }


def logged_model(name: str, version: str) -> str | None:
    """The id of the logged model behind a registered version; None where other files were registered."""
    sources = [str(v.source) for v in _versions(client(), name) if str(v.version) == version]
    return next((source.removeprefix("models:/") for source in sources if source.startswith(LOGGED)), None)


def tag_version(name: str, version: str, tags: Mapping[str, str]) -> None:
    """Set tags of a registered version."""
    server = client()
    for key, value in tags.items():
        server.set_model_version_tag(name, version, key, value)


def describe_version(name: str, version: str, description: str) -> None:
    """Set what MLflow shows for a registered version (markdown)."""
    client().update_model_version(name, version, description)


def _clear(server: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> None:
    """Delete the files of processes of this machine that were killed before they had registered them."""
    alike = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    for model in server.search_logged_models([experiment_id], alike):
        host, _, rest = str(model.tags.get(REGISTRAR, "")).partition(" ")
        if host == socket.gethostname() and _process(int(rest.partition(" ")[0])) != model.tags[REGISTRAR]:
            server.delete_logged_model(model.model_id)


def _process(pid: int) -> str:
    """Names a process of this machine, also when its number is given again; without a time if there is none now."""
    try:
        started = f"{psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        started = "ended"
    return f"{socket.gethostname()} {pid} {started}"


def _like(server: MlflowClient, name: str, tags: Mapping[str, str]) -> list[int]:
    """The versions with these tags, the first one first; not those whose logged model, their files, was deleted."""
    alike = [v for v in _versions(server, name) if tags.items() <= dict(v.tags).items()]
    return sorted(int(v.version) for v in alike if not _emptied(server, str(v.source)))


def _emptied(server: MlflowClient, source: str) -> bool:
    if not source.startswith(LOGGED):
        return False
    try:
        server.get_logged_model(source.removeprefix("models:/"))
    except mlflow.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return True
        raise
    return False


def _versions(server: MlflowClient, name: str) -> list[Any]:
    return list(server.search_model_versions(f"name = '{name}'"))
