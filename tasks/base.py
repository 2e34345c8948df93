"""The base model of a run, when it is not the preset's: from the hub, a local folder, or MLflow."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from prefect import task
from prefect.logging import get_run_logger

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.digest import digest, file_sha256
from pipeline_lib.core.hub import HUB
from pipeline_lib.core.store import open_dataset
from pipeline_lib.core.urls import local_path
from pipeline_lib.models import named
from pipeline_lib.models.names import MLFLOW_SCHEMES
from pipeline_lib.models.noise import check_range, check_steps
from pipeline_lib.presets import preset as find_preset
from tasks import registry
from tasks.settings import IO_TASK, state_place


def base_model(preset: str, name: str | None) -> BaseModel:
    """The preset's base model, or the one that a flow's parameter `base` names."""
    chosen = find_preset(preset).base
    return resolve(chosen, name) if name else chosen


def pinned(name: str | None) -> str | None:
    """A flow's parameter `base` as it means the same for all stages of a run: an MLflow alias replaced by its present
    version, a folder by its whole path without links."""
    if name and name.startswith(MLFLOW_SCHEMES):
        return pin(name)
    return str(local_path(name).resolve()) if name and local_path(name).is_dir() else name


def checked_base(
    preset: str, name: str | None, train: TrainConfig | None = None, steps: int | None = None
) -> str | None:
    """A flow's parameter `base` for all stages of a run, with an MLflow alias replaced by its present version.

    Before any stage runs, the base, the preset's for None, is looked at: whether its noise process, latents and
    conditioning are known here, and its schedule has the timesteps of `train` and room for `steps` of sampling.

    Raises:
        ConfigError: they are not, or it has not.
        HubError, CheckpointError: it cannot be fetched or read.
    """
    own = find_preset(preset).base
    name = pinned(name)
    if name and name.startswith(MLFLOW_SCHEMES):
        timesteps = named.check_kind(resolve(own, name))
    else:
        timesteps = named.check_named(own, name)
    if timesteps is not None:
        check_range(timesteps, train.timestep_range if train else None)
        check_steps(timesteps, steps or 0)
    return name


@task(name="pin-base-model", **IO_TASK)
def pin(name: str) -> str:
    """The version that an MLflow URI means now."""
    return registry.pinned(name)


@task(name="base-model", **IO_TASK)
def resolve(base: BaseModel, name: str) -> BaseModel:
    """The base model `name` of the family of `base`, its files on this machine where they come from MLflow.

    A LoRA that this pipeline trained is fused into its base. Datasets are keyed by the name and the files' content.

    Raises:
        ConfigError: it is of a kind that is not known here.
        CheckpointError: files on this machine are not whole, finite weights of the pipeline's parts.
    """
    from pipeline_lib.models import local  # loads torch

    store = state_place("bases")
    if name.startswith(MLFLOW_SCHEMES):
        found = _from_mlflow(base, registry.pinned(name), store)
    else:
        found = named.base_named(base, name, store / digest([name], 16))
    named.check_kind(found)
    if found.mirror != HUB:
        local.check_weights(found)
    get_run_logger().info("base model: %s (%s)", found.repo, found.mirror)
    return found


@task(name="check-base", **IO_TASK)
def check_trained_on(preset: str, base: str | None, model: str) -> None:
    """Refuse to go on with a model dataset and another base than it was trained from; raises ConfigError."""
    from pipeline_lib.models.origin import check_base

    check_base(open_dataset(model), base_model(preset, base))


def _from_mlflow(base: BaseModel, uri: str, store: Path) -> BaseModel:
    """`<store>/<key>/<name>/<version>`; what a version holds never changes, so it is fetched once. But a name can be
    deleted and registered again, with other versions of the same numbers."""
    path = uri.partition(":")[2].strip("/")
    depth = len(Path(path).parts)
    final = store / digest([os.environ.get("MLFLOW_TRACKING_URI", ""), uri, registry.made(uri)], 16) / path
    if uri.startswith("models:/") and final.is_dir():
        return named.in_folder(base, final, depth)
    with tempfile.TemporaryDirectory(dir=store, prefix=".", suffix=".tmp") as scratch:
        files = registry.download(uri, Path(scratch) / "files")
        whole = named.complete(files, Path(scratch) / "fused")
        if not uri.startswith("models:/"):  # a run's files may change: a folder for each content
            there = sorted(file for file in whole.rglob("*") if file.is_file())
            content = digest([[file.relative_to(whole).as_posix(), file_sha256(file)] for file in there], 16)
            final = store / content / path
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(whole, final)
        except OSError:
            if not final.is_dir():  # otherwise another run was faster, with the same files
                raise
    return named.in_folder(base, final, depth)
