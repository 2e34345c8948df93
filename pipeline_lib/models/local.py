"""A base model in a folder of this machine, looked at when a run is created: hours pass before its UNet is loaded."""

from __future__ import annotations

from pathlib import Path

import diffusers

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.weights.files import DIFFUSERS
from pipeline_lib.core.weights.read import check
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.aligned import BASE, check_fits, read_base
from pipeline_lib.models.family import Family
from pipeline_lib.models.index import INDEX, pipeline_class, read_index
from pipeline_lib.models.parts import folder as fetched
from pipeline_lib.models.parts import vae_folder
from pipeline_lib.models.supported import check_supported
from pipeline_lib.models.text import check_text_parts


def check_folder(folder: Path) -> None:
    """Look at every weight in a folder with a pipeline, or with what training wrote.

    Raises:
        ConfigError: the pipeline is of no family that is known here.
        CheckpointError, HubError: it lacks files, or they are not those of its architecture, whole and finite.
    """
    if (folder / INDEX).is_file():
        found = pipeline_class(read_index(folder / INDEX))
        for name in FAMILIES.names():
            if FAMILIES.get(name).pipeline == found:
                check_weights(BaseModel(family=name, repo=str(folder)))  # type: ignore[arg-type]  # one of FAMILIES
                return
        known = " or ".join(FAMILIES.get(name).pipeline for name in FAMILIES.names())
        raise ConfigError(f"{folder} is a {found}.", f"Give a {known}.")
    if (folder / BASE).is_file():
        check_fits(folder, read_base(folder))


def check_weights(base: BaseModel) -> None:
    """Look at every weight of a base model's parts, and that they are known here and belong together.

    Raises:
        HubError, ConfigError, CheckpointError: as loading them would.
    """
    check_supported(base)
    family: Family = FAMILIES.get(base.family)
    root = fetched(base, ["unet", "scheduler", *family.text_parts])
    check(diffusers.UNet2DConditionModel, root / "unet", DIFFUSERS)
    check(diffusers.AutoencoderKL, vae_folder(base), DIFFUSERS)
    check_text_parts(root, family.text_parts)
