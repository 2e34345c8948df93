"""Configuration files of base models: what a model is, known before any of its weights is fetched or read."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import CheckpointError, ConfigError, excerpt
from pipeline_lib.core.json_files import read_json

OTHER_BASE = "Choose another base model."


@dataclass(frozen=True)
class Config:
    """A configuration file: where it lies, and its fields."""

    path: Path
    fields: Mapping[str, Any]

    def one_of(self, name: str, known: Collection[Any], default: Any, meaning: str = "") -> Any:
        """The field's value; raises ConfigError unless it is among the `known` ones. Absent, it has the `default`."""
        value = self.fields.get(name, default)
        # 0 == False and 1 == 1.0, but a list is in no set of names.
        if not any(value is item or (type(value) is type(item) and value == item) for item in known):
            choices = ", ".join(map(repr, known))
            raise self.refusal(f"{name} is {excerpt(value)}{meaning and f', {meaning}'}; known here: {choices}")
        return value

    def number(self, name: str, default: float | None, low: float, high: float) -> float:
        """The field's value within [low, high]; raises ConfigError for any other, or where it has no value at all."""
        value = self.fields.get(name, default)
        if value is None:
            raise self.refusal(f"it has no {name}, and a guess would be another model")
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.refusal(f"{name} is {excerpt(value)}, which is no number in [{low:g}, {high:g}]")
        return value

    def whole(self, name: str, default: int | None, low: int, high: int) -> int:
        """As `number`, without a fraction."""
        value = self.number(name, default, low, high)
        if not isinstance(value, int):
            raise self.refusal(f"{name} is {excerpt(value)}, which is no whole number")
        return value

    def absent(self, name: str, meaning: str) -> None:
        """Raise ConfigError where the field has a value that asks for something; `meaning` says for what."""
        value = self.fields.get(name)
        if value is not None and value is not False:
            raise self.refusal(f"{name} is {excerpt(value)}: {meaning}")

    def refusal(self, problem: str, remedy: str = OTHER_BASE) -> ConfigError:
        """The error that names this file."""
        return ConfigError(f"{self.path}: {problem}.", remedy)


def read_config(path: Path) -> Config:
    """The configuration in a JSON file; raises CheckpointError where there is none."""
    return Config(path, read_json(path, CheckpointError, "Fetch the repository again."))


def finite(values: Any) -> bool:
    """Whether this is a list of finite numbers."""
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )
