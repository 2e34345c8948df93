"""Typed registries: a name maps to an object, or to `module:attribute`, which is imported on first use.

To add an implementation to this project, write one file and one line in the registry that names it. To add one from
another package, declare an entry point in that package's pyproject.toml:

    [project.entry-points."preference_alignment.scorers"]
    mine = "my_package.mine:SCORER"
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from pipeline_lib.core.errors import ConfigError, UnknownNameError, excerpt

T = TypeVar("T")
PROJECT = "preference_alignment"
"""What the groups of entry points begin with."""
LONG = 100
"""Characters of a name that is compared with those that there are: no known one has as many."""


def unknown_name(kind: str, name: str, known: list[str]) -> UnknownNameError:
    """The error for a name that is not among `known`, with the nearest spellings."""
    close = difflib.get_close_matches(name[:LONG], known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return UnknownNameError(f"Unknown {kind} {excerpt(name)}.{hint}", f"Use one of: {', '.join(known)}.")


class Registry(Generic[T]):
    """Names of one kind of thing, each with what implements it.

    Args:
        kind: what a name is of, for messages: "scorer".
        own: this project's: name -> the object itself, or `module:attribute`.
        group: what other packages add, as entry points of `preference_alignment.<group>`; "" where they add nothing.
    """

    def __init__(self, kind: str, own: Mapping[str, str | T], group: str = "") -> None:
        self.kind = kind
        self.own = dict(own)
        self.group = group

    def names(self) -> list[str]:
        """All names, sorted. Imports nothing."""
        return sorted(self)

    def __iter__(self) -> Iterator[str]:
        """The names: this project's in their order, then those of other packages."""
        return iter([*self.own, *self._added()])

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._added()

    def __len__(self) -> int:
        return len(self.own) + len(self._added())

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def items(self) -> Iterator[tuple[str, T]]:
        """Every name with its implementation, all of which this imports."""
        return ((name, self.get(name)) for name in self)

    def get(self, name: str) -> T:
        """Import and return the implementation of `name`.

        Raises:
            UnknownNameError: there is none of that name; suggests the nearest.
            ConfigError: another package names it, and it cannot be imported.
        """
        if name in self.own:
            target = self.own[name]
            if not isinstance(target, str):
                return target
            module, _, attribute = target.partition(":")
            return cast(T, getattr(import_module(module), attribute))
        added = self._added()
        if name not in added:
            raise unknown_name(self.kind, name, self.names())
        point = added[name]
        try:
            return cast(T, point.load())
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"The {self.kind} {name} ({point.value}) of {_package(point)} cannot be imported: {error}.",
                f"Install {_package(point)} again, or uninstall it.",
            ) from error

    def _added(self) -> Mapping[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in _entry_points(f"{PROJECT}.{self.group}") if self.group else ():
            if point.name in self.own or point.name in found:
                raise ConfigError(
                    f"{_package(point)} adds a {self.kind} {point.name}, a name that is taken.",
                    f"Rename it in the entry points of {_package(point)}, or uninstall that.",
                )
            found[point.name] = point
        return found


@cache
def _entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Those of installed packages: looked up once per process."""
    return tuple(entry_points(group=group))


def _package(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist else "another package"
