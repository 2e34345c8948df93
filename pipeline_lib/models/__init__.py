"""Base models to align: one file per family. Importing this package loads neither torch nor diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.core.registry import Registry

if TYPE_CHECKING:
    from pipeline_lib.models.family import Family

FAMILIES: Registry[Family] = Registry(
    "base-model family",
    {
        "sd": "pipeline_lib.models.sd:SD",
        "sdxl": "pipeline_lib.models.sdxl:SDXL",
    },
)
