"""Which code made a dataset: digests of the modules that a stage consists of, as its manifest records them.

They are recorded and compared always, and git is not asked. An installed release has no repository; a checkout between
two releases is clean, bears the number of the last one and is not it; and what another branch changes in stages that a
dataset does not come from is no change of its code. The files answer all of that alike.

A dataset that other code made is used, and the log says so and names the modules. It is not made again without being
asked for: most edits change no result, and pairs, scores and latents of a real data set are days of work.
`recomputing` (`force=true` of the flows) does that, in a folder of its own: what models that exist were made from
stays as it is, and a run that is killed continues. From then on the same code finds it without being asked.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from pathlib import Path

from pipeline_lib.core.digest import file_sha256

PACKAGE = "pipeline_lib"
ROOT = Path(__file__).resolve().parents[1]
RELEASE = "release"
"""The entry beside the modules: the number of the release, or of the last one before."""
DIGITS = 16
SHOWN = 4
"""Modules that a message names."""
_NAMED = re.compile(rf"\b{PACKAGE}(?:\.\w+)+")
_IMPORTED = re.compile(rf"^\s*from ({PACKAGE}[\w.]*) import (?:\(([^)]*)\)|([^\n(]*))", re.MULTILINE)

_said: set[str] = set()
"""Datasets of which the log of this process says it."""

logger = logging.getLogger(__name__)

_forced: ContextVar[bool] = ContextVar("forced", default=False)


@contextmanager
def recomputing(force: bool = True) -> Iterator[None]:
    """Have stages that are asked for meanwhile make again what other code has made."""
    before = _forced.set(force or _forced.get())
    try:
        yield
    finally:
        _forced.reset(before)


def forced() -> bool:
    """Whether datasets of other code are to be made again."""
    return _forced.get()


@cache
def modules(*roots: str) -> dict[str, str]:
    """Module -> digest of its file, for modules of this package and all of it that they import or name in strings.

    Registries name what they load late, as "pipeline_lib.scoring.clip:locate". Files are read once per process.
    """
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in (*found, PACKAGE) and (file := _file(name)):
            found[name] = file_sha256(file)[:DIGITS]
            waiting += _named_in(file)
    return dict(sorted(found.items()))


def differing(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """The modules that are not the same in both; all of ours where nothing is known of theirs."""
    return sorted(name for name in {*theirs, *ours} - {RELEASE} if theirs.get(name) != ours.get(name))


def told(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """What of the code is another, in words: "release 0.1.0: training.losses, training.step"."""
    names = [name.removeprefix(f"{PACKAGE}.") for name in differing(theirs, ours)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    known = f"{', '.join(names[:SHOWN])}{more}" if theirs.keys() - {RELEASE} else "its modules are not recorded"
    return f"release {theirs.get(RELEASE, 'unknown')}: {known}"


def say_other(path: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Say in the log, once per process, that a dataset is used that other code made."""
    _say(path, theirs, ours, "It is used; force=true makes it again by this code.")


def say_named(path: str, theirs: Mapping[str, str]) -> None:
    """As `say_other` of a dataset that was named, where its modules are not what they were or are not recorded."""
    names = [name for name in theirs if _NAMED.fullmatch(name)]
    ours = {name: file_sha256(file)[:DIGITS] for name in names if (file := _file(name))}
    if differing(theirs, ours) or not names:
        _say(path, theirs, ours, "It is used because it was named; its stage makes it again with force=true.")


def _say(path: str, theirs: Mapping[str, str], ours: Mapping[str, str], then: str) -> None:
    if path not in _said:
        _said.add(path)
        logger.warning("%s was made by other code (%s). %s", path, told(theirs, ours), then)


def _file(name: str) -> Path | None:
    """The file of a module or package, which is not loaded."""
    place = ROOT.joinpath(*name.split(".")[1:])
    return next((f for f in (place / "__init__.py", place.with_suffix(".py")) if f.is_file()), None)


@lru_cache(maxsize=1024)
def _named_in(file: Path) -> set[str]:
    """Modules of this package that a source names: imported, wherever in it, or in a string; parsing takes longer."""
    text = file.read_text(encoding="utf-8")
    names = {match[0] for match in _NAMED.finditer(text)}
    for package, several, one in _IMPORTED.findall(text):
        names.update(f"{package}.{part.split()[0]}" for part in (several or one).split(",") if part.strip())
    return names | {name.rpartition(".")[0] for name in names if "." in name}
