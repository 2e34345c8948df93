"""Recipes as people give them: by the name of a file in presets/labels, as YAML text, or as a list of steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from pipeline_lib import presets
from pipeline_lib.core.errors import EXCERPT, LabelError
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.labels.parse import parse
from pipeline_lib.labels.steps import Step

Recipe: TypeAlias = str | Sequence[Any]
"""A name, YAML text, or a list of steps."""

FOLDER = Path(presets.__file__).parent / "labels"
"""One YAML file per named recipe."""
MAX_CHARACTERS = 20_000
"""Of a recipe as text."""
MAX_LEVELS = 20
_NAME = re.compile(r"[\w.-]+")


class _Loader(yaml.SafeLoader):
    """YAML without aliases, with which a few lines, each of lists of the one before, become a huge recipe, and without
    more levels than a recipe has."""

    level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="an alias (*) is not taken", problem_mark=self.peek_event().start_mark)
        self.level += 1
        if self.level > MAX_LEVELS:
            raise yaml.MarkedYAMLError(problem=f"there are more than {MAX_LEVELS} levels")
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


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
    what = f"{what[0].upper()}{what[1:]}"
    if len(text) > MAX_CHARACTERS:
        raise LabelError(f"{what} has {len(text)} characters.", f"Write it in at most {MAX_CHARACTERS}.")
    try:
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        why = str(error)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = f"a value cannot be read ({error})"  # a date that there is not, a number that is none
    raise LabelError(f"{what} is not YAML: {why[:EXCERPT]}.", "Write a list of steps, such as [{single: human}].")
