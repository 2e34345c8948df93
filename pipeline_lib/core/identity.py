"""What of a stage's settings decides its result: the one rule for the keys of all stages.

A setting that decides nothing but how a result is reached (how often to checkpoint, what to show meanwhile) is in no
key: its field is declared with `undecided`. A setting at its default is in no key either, so that a field which is
added later changes no key of before. Therefore a default never changes: what should behave otherwise gets a new name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any, TypeVar

T = TypeVar("T")
_DECIDES = "decides"


def undecided(default: T) -> T:
    """A dataclass field with a default, whose value changes no byte of the result."""
    found: T = field(default=default, metadata={_DECIDES: False})
    return found


def decides(of: Field[Any]) -> bool:
    """Whether a field of a config decides the result."""
    return bool(of.metadata.get(_DECIDES, True))


def settled(config: Any) -> dict[str, Any]:
    """The settings that decide a result, spelled out, as a manifest records them.

    Args:
        config: a dataclass.
    """
    return {of.name: getattr(config, of.name) for of in fields(config) if decides(of)}


def identity(settings: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """Settings as they stand in a key: without those that decide nothing, and without those at their default.

    Args:
        settings: values by name, those of a config and others; what is no field of it stays.
        kind: the config's dataclass.
    """
    known = {of.name: of for of in fields(kind)}
    return {
        name: value
        for name, value in settings.items()
        if name not in known or (decides(known[name]) and _listed(value) != _listed(_default(known[name])))
    }


def _default(of: Field[Any]) -> Any:
    """Its default; MISSING, which equals no value, for a field that must be given."""
    return of.default if of.default_factory is MISSING else of.default_factory()


def _listed(value: Any) -> Any:
    """A value as JSON has it: a tuple is a list."""
    if isinstance(value, tuple | list):
        return [_listed(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
