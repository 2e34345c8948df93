"""Registries import on first use and help with spelling."""

from __future__ import annotations

import sys

import pytest

from pipeline_lib.core.errors import UnknownNameError
from pipeline_lib.core.registry import Registry, unknown_name


def test_get_imports_the_attribute() -> None:
    registry: Registry[object] = Registry("joiner", {"join": "posixpath:join"})
    import posixpath

    assert registry.get("join") is posixpath.join
    assert registry.names() == ["join"]


def test_names_are_listed_without_importing() -> None:
    registry: Registry[object] = Registry("thing", {"b": "this_module_is_absent:b", "a": "also_absent:a"})
    assert registry.names() == ["a", "b"]
    assert "this_module_is_absent" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        registry.get("a")


def test_unknown_name_suggests_and_lists() -> None:
    registry: Registry[object] = Registry("scorer", {"pickscore": "x:y", "clip": "x:y"})
    with pytest.raises(UnknownNameError) as caught:
        registry.get("pikscore")
    assert "Unknown scorer 'pikscore'. Did you mean 'pickscore'?" in str(caught.value)
    assert "Use one of: clip, pickscore." in str(caught.value)


def test_nothing_close_suggests_nothing() -> None:
    assert "Did you mean" not in str(unknown_name("scorer", "zzz", ["clip"]))
