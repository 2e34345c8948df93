"""Lazy, typed registries: a name maps to `module:attribute`, imported on first use.

Adding an implementation is one new file and one line in the registry that names it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Generic, TypeVar, cast

from pipeline_lib.core.errors import UnknownNameError, excerpt

T = TypeVar("T")
LONG = 100
"""Characters of a name that is compared with those that there are: no known one has as many."""


def unknown_name(kind: str, name: str, known: list[str]) -> UnknownNameError:
    """The error for a name that is not among `known`, with the nearest spellings."""
    close = difflib.get_close_matches(name[:LONG], known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return UnknownNameError(f"Unknown {kind} {excerpt(name)}.{hint}", f"Use one of: {', '.join(known)}.")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Names of one kind of thing, each with the `module:attribute` that implements it."""

    kind: str
    targets: Mapping[str, str]

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self.targets)

    def get(self, name: str) -> T:
        """Import and return the implementation of `name`; raises UnknownNameError with suggestions."""
        if name not in self.targets:
            raise unknown_name(self.kind, name, self.names())
        module, _, attribute = self.targets[name].partition(":")
        return cast(T, getattr(import_module(module), attribute))
