"""A base model in a folder of this machine, looked at when a run is created: hours pass before its UNet is loaded."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.config import BaseModel
from pipeline_lib.errors import ConfigError
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.aligned import UNET
from pipeline_lib.models.components import check_unet, check_weights
from pipeline_lib.models.index import INDEX, pipeline_class, read_index


def check_folder(folder: Path) -> None:
    """Look at every weight in a folder with a pipeline, or with what training wrote.

    Raises:
        ConfigError: the pipeline is of no family that is known here.
        CheckpointError, HubError: it lacks files, or they are not those of its architecture, whole and finite.
    """
    if (folder / INDEX).is_file():
        found = pipeline_class(read_index(folder / INDEX))
        for name in FAMILIES.names():
            if (family := FAMILIES.get(name)).pipeline == found:
                base = BaseModel(family=family.name, repo=folder.name, mirror=str(folder.parent))  # type: ignore[arg-type]  # one of FAMILIES
                check_weights(base)
                return
        known = " or ".join(FAMILIES.get(name).pipeline for name in FAMILIES.names())
        raise ConfigError(f"{folder} is a {found}.", f"Give a {known}.")
    if (folder / UNET).is_dir():
        check_unet(folder / UNET)
