"""Presets: everything one base model needs, from the source of its pairs to the settings of its evaluation.

A preset plus a method name is a complete run; flows override single fields. Each file of this folder is a preset, by
its name: to add one, copy a file. `sd15`, `sd21` and `sdxl` carry the official repositories, pinned, and the papers'
hyper-parameters; `shapes` is the built-in world. Other packages add presets as entry points of
`preference_alignment.presets`.
"""

from __future__ import annotations

from pkgutil import iter_modules
from typing import TYPE_CHECKING, Literal, TypeAlias

from pipeline_lib.core.registry import Registry, unknown_name
from pipeline_lib.presets.common import PICKAPIC_V2, Alignment, Preset
from pipeline_lib.scoring.scorers import defaults

__all__ = [
    "ALL_SCORERS",
    "METHODS",
    "PICKAPIC_V2",
    "PRESETS",
    "Alignment",
    "MethodName",
    "Preset",
    "PresetName",
    "alignment",
    "preset",
]

ALL_SCORERS = defaults()
"""The scorers that presets run."""
PRESETS: Registry[Preset] = Registry(
    "preset",
    {file.name: f"{__name__}.{file.name}:PRESET" for file in iter_modules(__path__) if not file.ispkg},
    group="presets",
)


def preset(name: str) -> Preset:
    """The preset of that name; raises UnknownNameError with the known ones."""
    return PRESETS.get(name)


def alignment(preset_name: str, method: str) -> Alignment:
    """How `method` is run on a preset; raises UnknownNameError with the methods the preset has."""
    methods = preset(preset_name).methods
    if method not in methods:
        raise unknown_name("method", method, sorted(methods))
    return methods[method]


METHODS: tuple[str, ...] = tuple(dict.fromkeys(method for _, one in PRESETS.items() for method in one.methods))
"""The methods of all presets."""

if TYPE_CHECKING:
    PresetName: TypeAlias = str
    MethodName: TypeAlias = str
else:  # what there is, which forms show as a choice
    PresetName = Literal[tuple(PRESETS)]
    MethodName = Literal[METHODS]
