"""Registries import on first use and help with spelling."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline_lib.core.errors import ConfigError, UnknownNameError
from pipeline_lib.core.registry import Registry, _entry_points, unknown_name


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


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Installs a package `toys` with these entry points and this module."""

    def install(points: str, code: str) -> None:
        described = tmp_path / "toys-1.0.dist-info"
        described.mkdir()
        (described / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
        (described / "entry_points.txt").write_text(points)
        (tmp_path / "toys.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        _entry_points.cache_clear()

    yield install
    _entry_points.cache_clear()
    sys.modules.pop("toys", None)


def test_other_packages_add_names(installed: Callable[[str, str], None]) -> None:
    installed("[preference_alignment.toys]\nbear = toys:BEAR\ngone = toys:GONE\n", "BEAR = 'a bear'\n")
    registry: Registry[object] = Registry("toy", {"one": 1}, group="toys")
    assert registry.names() == ["bear", "gone", "one"] and list(registry) == ["one", "bear", "gone"]
    assert "toys" not in sys.modules and "bear" in registry and len(registry) == 3
    assert registry["bear"] == "a bear" and registry.get("one") == 1
    with pytest.raises(ConfigError, match=r"The toy gone \(toys:GONE\) of the package toys cannot be imported"):
        registry.get("gone")
    assert Registry("toy", {"one": 1}).names() == ["one"]


def test_a_name_that_is_taken_is_refused(installed: Callable[[str, str], None]) -> None:
    installed("[preference_alignment.toys]\none = toys:ONE\n", "ONE = 2\n")
    with pytest.raises(ConfigError, match="the package toys adds a toy one, a name that is taken"):
        Registry("toy", {"one": 1}, group="toys").names()
