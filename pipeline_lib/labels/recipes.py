"""Recipes as people give them: by the name of a file in deploy/presets/labels, as YAML text, or as a list of steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from pipeline_lib.errors import LabelError
from pipeline_lib.labels.parse import parse
from pipeline_lib.labels.steps import Step
from pipeline_lib.registry import unknown_name

Recipe: TypeAlias = str | Sequence[Any]
"""A name, YAML text, or a list of steps."""

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "presets" / "labels"
"""One YAML file per named recipe, where people edit them: in a checkout and, installed, beside this package."""
_NAME = re.compile(r"[\w.-]+")


def names() -> list[str]:
    """The named recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def steps_of(recipe: Recipe) -> list[Step]:
    """The steps of a recipe.

    Raises:
        UnknownNameError: no recipe has that name; lists those that are.
        LabelError: the YAML cannot be read, or the recipe makes no sense; names the step and the remedy.
    """
    if not isinstance(recipe, str):
        return parse(recipe)
    if not _NAME.fullmatch(recipe.strip()):
        return parse(_read(recipe, "the recipe"))
    name = recipe.strip()
    if name not in names():
        raise unknown_name("label recipe", name, names())
    return parse(_read((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), f"recipe {name!r}"))


def _read(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise LabelError(
            f"{what[0].upper()}{what[1:]} is not YAML: {error}.", "Write a list of steps, such as [{single: human}]."
        ) from error
