"""The models that a comparison names: versions of the registry, model datasets, pipelines, and the preset's base."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prefect import task
from prefect.logging import get_run_logger

from pipeline_lib.core.config import BaseModel, require
from pipeline_lib.core.errors import (
    CheckpointError,
    ConfigError,
    DatasetCorruptError,
    DatasetUnfinishedError,
    HubError,
    excerpt,
)
from pipeline_lib.core.store import MANIFEST, open_dataset
from pipeline_lib.core.urls import local_path
from pipeline_lib.models.names import MLFLOW_SCHEMES, REPOSITORY
from tasks import champion, registry
from tasks.base import resolve
from tasks.settings import IO_TASK, state_place

BASE = "base"
VERSION = "models:/"
IN_STORE = "model/"


@dataclass(frozen=True)
class Contender:
    """One model of a comparison.

    Attributes:
        label: what reports call it.
        base: the pipeline it was trained from or, without a dataset, the pipeline that it is.
        model: URI of its model dataset; None for a whole pipeline.
        version: `models:/<name>/<version>` where the registry has it.
    """

    label: str
    base: BaseModel
    model: str | None = None
    version: str | None = None


@task(name="find-models", **IO_TASK)
def find_models(store: str, base: BaseModel, names: Sequence[str]) -> list[Contender]:
    """What each of `names` means, in their order; `base` is the preset's. See `find`."""
    require(len(names) > 1, f"A comparison needs two or more models; got {len(names)}.", "Name another one.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    require(not twice, f"{', '.join(twice)}: named more than once.", "Name each model once.")
    found = {name: find(store, base, name) for name in names}
    for name, contender in found.items():
        if contender.model:
            get_run_logger().info("compare: %s is %s, %s", name, contender.label, contender.model)
    return distinct(found)


def find(store: str, base: BaseModel, name: str) -> Contender:
    """The model of that name.

    Args:
        store: where the datasets of registered versions are looked for.
        base: the preset's base model, or the one that was named instead.
        name: `base`; `models:/<name>@<alias>`, `models:/<name>/<version>` or other URI of MLflow; `model/<key>` or the
            URI of a model dataset; a folder of diffusers or one that training wrote; `<org>/<name>@<revision>`, or
            without a revision. A folder or repository may also hold a UNet alone or a LoRA, and a LoRA may be a file:
            they are put into `base`.

    Raises:
        ConfigError: it is none of these.
        HubError, DatasetUnfinishedError, CheckpointError: there is no such model, or it cannot be read.
    """
    if name == BASE:
        return Contender(BASE, base)
    if name.startswith(VERSION):
        return _registered(store, base, registry.pinned(name))
    if name.startswith(MLFLOW_SCHEMES):
        return Contender(name.partition(":")[2].strip("/"), resolve.fn(base, name))
    if name.startswith(IN_STORE):
        return _trained(f"{store}/{name}")
    if "://" in name:
        return _trained(name)
    folder = local_path(name).resolve()
    if (folder / MANIFEST).is_file():
        return _trained(str(folder))
    if folder.exists():
        place = folder if folder.is_dir() else local_path(name).absolute()  # a link's target may have lost its name
        return Contender(place.name, _in_base(base, place) or resolve.fn(base, name))
    if REPOSITORY.fullmatch(name):
        return Contender(name, _fetched_in_base(base, name) or resolve.fn(base, name))
    raise ConfigError(
        f"{excerpt(name)} names no model, and there is no such folder.",
        "Write base, models:/<name>@<alias>, models:/<name>/<version>, model/<key> or the URI of a model dataset, a "
        "folder, a LoRA's file, or <org>/<name>@<revision>.",
    )


def distinct(found: Mapping[str, Contender]) -> list[Contender]:
    """The contenders, by the names they were asked for where several have one label."""
    labels = Counter(contender.label for contender in found.values())
    return [replace(c, label=name) if labels[c.label] > 1 else c for name, c in found.items()]


def _registered(store: str, base: BaseModel, uri: str) -> Contender:
    """A registered version: the model dataset it was made from, whose images the store may have; else its files."""
    path = uri.removeprefix(VERSION).strip("/")
    name, _, version = path.rpartition("/")
    held = champion.registered(version, registry.version_tags(name, version) if name else {})
    if held.digest:
        try:
            dataset, own = champion.open_version(held, store)
            return Contender(path, own, dataset.uri, uri)
        except (CheckpointError, ConfigError, DatasetCorruptError, DatasetUnfinishedError, HubError) as error:
            get_run_logger().warning("compare: %s as the files that were registered: %s", uri, error)
    return Contender(path, resolve.fn(base, uri), version=uri if name else None)


def _in_base(base: BaseModel, place: Path) -> BaseModel | None:
    """A UNet alone or a LoRA on this machine, in `base`; None for others."""
    from pipeline_lib.models import index, lora_settings, named  # loads torch

    if not named.is_alone(place):
        if (place / index.INDEX).is_file() and (place / lora_settings.LORA_WEIGHTS).is_file():
            get_run_logger().info(
                "compare: %s holds a whole model; %s beside it is not added", place, lora_settings.LORA_WEIGHTS
            )
        return None
    get_run_logger().info("compare: %s holds no pipeline and is put into %s", place, base.repo)
    return named.in_base(base, place, place.name, state_place("bases"))


def _fetched_in_base(base: BaseModel, name: str) -> BaseModel | None:
    """A UNet alone or a LoRA on the hub, in `base`; None for others."""
    from pipeline_lib.models import named  # loads torch

    files = named.fetched_alone(name)
    if files is None:
        return None
    get_run_logger().info("compare: %s holds no pipeline and is put into %s", name, base.repo)
    return named.in_base(base, files, name.partition("@")[0], state_place("bases"))


def _trained(uri: str) -> Contender:
    dataset = open_dataset(uri)
    return Contender(dataset.path(), champion.base_of(dataset), dataset.uri)
