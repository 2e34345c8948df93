"""A config and the settings that somebody gave by name, to a config whose every field is checked.

The only place where types and bounds of `core/config.py` are looked at: forms, Python, specs of training runs and the
command line all come here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline_lib.core.errors import ConfigError, excerpt
from pipeline_lib.core.registry import unknown_name

C = TypeVar("C")
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}
"""By config; making one takes milliseconds."""


def override(config: C, given: Mapping[str, Any] | None = None, /, **flat: Any) -> C:
    """Put settings into a config: those of `given`, and in their place those of `flat` that are not None.

    Args:
        config: a dataclass of core/config.py.
        given: fields by name, with values as JSON has them; None is a value, where the field may have it.
        flat: fields by name; None leaves the config's.

    Raises:
        UnknownNameError: a name that is no field; says which is meant.
        ConfigError: a value of the wrong type or out of bounds, also one that `flat` takes the place of.
    """
    chosen = {name: value for name, value in flat.items() if value is not None}
    for values in (given or {}, flat):
        check_names(type(config), values)
    if given:
        config = validated(replace(config, **given))  # type: ignore[type-var]  # C is a dataclass
    return validated(replace(config, **chosen))  # type: ignore[type-var]


def validated(config: C) -> C:
    """The config with every field checked and of its own type: a list becomes a tuple, 1 becomes 1.0.

    Raises:
        ConfigError: a value of the wrong type or out of bounds; names all of them.
    """
    return built(type(config), asdict(config))  # type: ignore[call-overload]  # C is a dataclass


def built(kind: type[C], values: Mapping[str, Any]) -> C:
    """Make a dataclass of values as JSON has them.

    Raises:
        UnknownNameError: a name that is no field; says which is meant.
        ConfigError: a field is missing, of the wrong type or out of bounds; names all of them.
    """
    check_names(kind, values)
    needed = [of.name for of in fields(kind) if of.default is MISSING and of.default_factory is MISSING]  # type: ignore[arg-type]
    if missing := [name for name in needed if name not in values]:
        raise ConfigError(f"{kind.__name__} lacks {', '.join(missing)}.", "Give every field that has no default.")
    try:
        return _adapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise _wrong(kind, error) from error


def check_names(kind: type[Any], values: Mapping[str, Any]) -> None:
    """Raise UnknownNameError, with the nearest ones, for a name that is no field of the dataclass."""
    known = [of.name for of in fields(kind)]
    for name in values:
        if name not in known:
            raise unknown_name(f"{kind.__name__} field", name, known)


def schema(kind: Any) -> dict[str, dict[str, Any]]:
    """The JSON schema of every field of a config by name: type, choices and bounds."""
    properties: dict[str, dict[str, Any]] = _adapter(kind).json_schema()["properties"]
    return properties


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _wrong(kind: type[Any], error: ValidationError) -> ConfigError:
    """What is wrong with each value, and between which bounds it must lie."""
    problems, remedies = [], []
    for one in error.errors():
        name, value = ".".join(map(str, one["loc"])), excerpt(one["input"])
        if bounds := _bounds(schema(kind).get(str(one["loc"][0]), {}), len(one["loc"]) > 1, one["type"]):
            problems.append(f"{name} is {value}")
            remedies.append(f"{name} in {bounds}")
        else:
            problems.append(f"{name}={value}: {one['msg']}")
    remedy = (
        f"Set {', '.join(remedies)}." if remedies else "Give a value of the type, or one of the choices, named here."
    )
    return ConfigError(f"{'; '.join(problems)}.", remedy)


_OUTSIDE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")


def _bounds(field: Mapping[str, Any], inside: bool, kind: str) -> str:
    """The interval of a number of a field's schema, `inside` a list of them; empty where an error is about another
    thing."""
    if kind not in _OUTSIDE:
        return ""
    for one in field.get("anyOf", [field]):
        items = one.get("prefixItems", [one.get("items", {})])[0] if inside else one
        low = next((f"{mark}{items[key]:g}" for key, mark in _MINIMA if key in items), "")
        high = next((f"{items[key]:g}{mark}" for key, mark in _MAXIMA if key in items), "")
        if low and high:
            return f"{low}, {high}"
    return ""


_MINIMA = (("minimum", "["), ("exclusiveMinimum", "("))
_MAXIMA = (("maximum", "]"), ("exclusiveMaximum", ")"))
