"""A config with values of others in it: names and types checked, with the nearest names where one is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline_lib.core.config import override
from pipeline_lib.core.errors import ConfigError, excerpt

C = TypeVar("C")


def configured(config: C, values: Mapping[str, Any]) -> C:
    """`config` with those of `values` that are not None, in the types of its fields.

    Raises:
        UnknownNameError: a name that it has not.
        ConfigError: a value of another type.
    """
    changed = override(config, **values)
    try:
        return TypeAdapter(type(config)).validate_python(asdict(changed))  # type: ignore[call-overload]  # a dataclass
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}={excerpt(e['input'])}: {e['msg']}" for e in error.errors())
        name = type(config).__name__
        raise ConfigError(f"Wrong settings: {wrong}.", f"See the fields of {name}.") from error
