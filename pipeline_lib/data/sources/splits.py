"""Which split a file belongs to, by its path.

A word of WORDS says it: as a folder (`Train/0.parquet`, `split=train/0.parquet`), or in the file's name, in any case
and apart from other letters (`train-0.parquet`, `pairs_train.parquet`, `train_00007.parquet`, `x-val-0-of-4.parquet`).
What follows the word and is more than the number of a shard names a split of its own (`validation_unique`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import unquote

from pipeline_lib.core.errors import SourceError
from pipeline_lib.data.sources.columns import SPLIT, stem

WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "dev",
    "test": "test",
    "testing": "test",
    "eval": "eval",
    "evaluation": "eval",
}
"""Words that say a split -> the split they say."""
STANDS_IN = {"validation": "dev", "dev": "validation", "test": "eval", "eval": "test"}
"""What is read where a source has nothing under the name asked for: two names of one thing, unless it has both."""
UNIQUE = "unique"
"""Pick-a-Pic's `validation_unique` is cut from `validation`, and no part of it is missing there."""

_LETTERS = r"[^\W\d_]"
_WORD = re.compile(rf"(?<!{_LETTERS})({'|'.join(sorted(WORDS, key=len, reverse=True))})(?!{_LETTERS})")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")
_SHARDS = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]+)?$")
"""The end of a shard's name on the hub: what stands before it is the split, and nothing else."""
_NO_NAME = re.compile(r"\d+|of|part|shard|chunk|batch|(?=[0-9a-f]*\d)[0-9a-f]{6,}")
"""What numbers a shard, or is a digest."""


@dataclass(frozen=True)
class Said:
    """The split that a name says.

    Attributes:
        split: its canonical name; "" where the name says two.
        written: as it stands there, in lower case, with what numbers a shard: `train_00007`.
        label: the same without.
        exact: the name can say nothing else.
    """

    split: str
    written: str
    label: str
    exact: bool = False

    @property
    def base(self) -> str:
        """The split it is cut from: `validation_unique` and `dev` are both cut from `validation`."""
        base = self.split.partition("_")[0]
        return "validation" if base == "dev" else base


class Named(Protocol):
    """A file with a name relative to its source."""

    @property
    def name(self) -> str: ...


F = TypeVar("F", bound=Named)


def said_by(path: str) -> Said | None:
    """The split that a relative path says, None where it says none; the part that is nearest to the file decides, but
    a folder that is named by a split alone contradicts another one, and settles what belongs to it."""
    *folders, file = path.split("/")
    found: Said | None = None
    for part in [stem(file), *map(stem, reversed(folders))]:
        said = _said(part)
        if said is None:
            continue
        if found is None:
            found = said
        elif part.lower() not in WORDS:
            continue
        elif said.base != found.base:
            return Said("", found.written, found.label)
        elif not found.exact and not found.split.endswith(f"_{UNIQUE}"):
            return Said(said.split, found.written, said.label)  # all of `train/train_extra.parquet` is training data
    return found


def split_of(path: str) -> str | None:
    """The canonical name of the split that a relative path says; None where it says none, or two."""
    found = said_by(path)
    return (found.split or None) if found else None


def same_split(value: str, split: str) -> bool:
    """Whether a value of a column `split` means the split asked for."""
    return value.strip().lower() == split.strip().lower() or canonical(value) == canonical(split)


def canonical(split: str) -> str:
    """One name for all spellings of a split: `Training` and `train` are one, `my_fold` is itself."""
    name = split.strip().lower()
    said = _said(name)
    return said.split if said and said.split and said.label == name else name


def of_split(files: Sequence[F], split: str, url: str) -> tuple[list[F], dict[str, list[F]], list[F]]:
    """The files of one split in name order, those of the other splits by the names written there, and those of none.

    Where no name says a split, every file belongs to the one asked for.

    Raises:
        SourceError: names that say other splits only, two at once, or not clearly whether it is the one asked for.
    """
    files = sorted(files, key=lambda file: file.name)
    said = {file.name: found for file in files if (found := said_by(file.name))}
    if not said:
        return files, {}, []
    literal = split.strip().lower()
    two = [file for file in files if file.name in said and not said[file.name].split]
    if unclear := [file for file in two if literal in WORDS or said[file.name].written != literal]:
        raise SourceError(
            f"{url} has files whose names say two splits: {listed(unclear)}.",
            "Rename them, or move the files of each split into a folder of its own.",
        )
    chosen = _chosen(files, said, split, url)
    names = {file.name for file in chosen}
    base = said[chosen[0].name].base
    others: dict[str, list[F]] = {}
    for file in files:
        found = said.get(file.name)
        if found and file.name not in names and found.base != base:
            others.setdefault(found.label, []).append(file)
    return chosen, others, [file for file in files if file.name not in said]


def listed(files: Sequence[Named], most: int = 5) -> str:
    """The names of files, as far as an error can hold them."""
    names = ", ".join(file.name for file in files[:most])
    return names if len(files) <= most else f"{names} and {len(files) - most} more"


def _chosen(files: Sequence[F], said: Mapping[str, Said], split: str, url: str) -> list[F]:
    wanted, literal = canonical(split), split.strip().lower()

    def those(name: str) -> list[F]:
        return [file for file in files if file.name in said and said[file.name].split == name]

    literally = [file for file in files if file.name in said and said[file.name].written == literal]
    if literally and literal not in WORDS:
        return literally
    parts = [file for file in files if file.name in said and _may_be_part(said[file.name].split, wanted)]
    if plain := those(wanted):
        if loose := [file for file in parts if not said[file.name].exact]:
            raise SourceError(
                f"{url} has files of split {split!r} beside others whose names only begin so: {listed(loose)}.",
                f"Put all files that belong to it into a folder {wanted}/, and keep the others elsewhere.",
            )
        return plain
    if len({said[file.name].split for file in parts}) == 1:
        return parts
    if wanted in STANDS_IN and (found := those(STANDS_IN[wanted])):
        return found
    names = sorted({found.label for found in said.values() if found.split})
    raise SourceError(f"{url} has no files of split {split!r}.", f"Choose split={' or '.join(names)}.")


def _may_be_part(split: str, wanted: str) -> bool:
    """Whether `train_pairs` may be what is meant by `train`."""
    base, _, rest = split.partition("_")
    return base == wanted and bool(rest) and rest != UNIQUE and not set(rest.split("_")) & WORDS.keys()


def _said(part: str) -> Said | None:
    """The split that one part of a path says."""
    key, equals, value = part.partition("=")
    if equals:  # what other partition columns hold says no split
        value = unquote(value).lower()
        return (_said(value) or Said(value, value, value, True)) if key.lower() == SPLIT else None
    name = _SHARDS.sub("", part)
    exact = name != part
    words = list(_WORD.finditer(name.lower())) or list(_WORD.finditer(_HUMP.sub("_", name).lower()))
    if not words:
        return None
    first, name = words[0], words[0].string
    tail = name[first.end() :]
    rest = re.split(r"[-.]", tail, maxsplit=1)[0] if first.start() == 0 else ""
    if first.start() > 0 and re.match(rf"_{UNIQUE}(?!{_LETTERS})", tail):
        rest = f"_{UNIQUE}"
    suffix = "".join(f"_{text}" for text in re.split(r"[\W_]+", rest) if text and not _NO_NAME.fullmatch(text))
    written, label = first.group() + (rest if rest.startswith("_") else ""), first.group() + suffix
    named = exact and first.start() == 0 and not tail.removeprefix(rest)  # the hub's `train_test-00000-of-00001`
    if len({WORDS[word.group()] for word in words}) > 1 and not named:
        return Said("", written, label)
    return Said(WORDS[first.group()] + suffix, written, label, exact)
