"""What a step of a label recipe is. The steps themselves lie beside what they do: filters, votes, dedpo, ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias

import polars as pl

from pipeline_lib.core.errors import LabelError
from pipeline_lib.core.identity import identity, settled
from pipeline_lib.core.registry import unknown_name

HUMAN = "human"
TARGET, G_HAT = "target", "g_hat"
SELF_TRAINING = "self-training"
"""The scorer whose score is a trained model's implicit preference (training/implicit.py)."""

Dropped: TypeAlias = dict[str, int]
"""How many pairs a step dropped, by reason."""


@dataclass(frozen=True)
class Step:
    """Base of all steps; the fields of a subclass are its options, `from_` being written `from`.

    A step works on the table of `table.pair_table` with the columns of schemas.LABELS beside it: Polars expressions
    in, pairs kept and counts of the others out.
    """

    name: ClassVar[str]
    main: ClassVar[str] = ""
    """The option that may be given as the step's value."""
    label: ClassVar[str] = ""
    """Who labels, as reports write it; of steps that set the target. Empty for the step's name."""
    sets: ClassVar[frozenset[str]] = frozenset()
    """Columns that it gives every pair it keeps and that only one step of a recipe may set: TARGET, which exactly one
    does, G_HAT, or one of the step's own, which the dataset keeps."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Columns that an earlier step must have set."""
    hides: ClassVar[frozenset[str]] = frozenset()
    """Columns that it hides from all later steps."""
    needs_all: ClassVar[frozenset[str]] = frozenset()
    """Columns of which nothing may be hidden before it."""
    counts_human: ClassVar[bool] = False
    """The manifest counts the pairs with a human label (`n_l`) and the others (`n_u`)."""
    place: ClassVar[Literal["anywhere", "before", "after"]] = "anywhere"
    """Where the step may stand, seen from the one that sets the target."""

    def scorers(self) -> list[str]:
        """The scorers whose scores the step reads."""
        return []

    def complete(self) -> list[str]:
        """Those of them without whose scores a pair is dropped before the first step."""
        return self.scorers()

    def columns(self) -> list[str]:
        """The columns of the pairs that it reads beside ids, images and label."""
        return []

    def check(self) -> None:
        """Raise LabelError when the options make no sense; the caller says which step it is."""

    def words(self) -> str:
        """What the step does, as a sentence."""
        raise NotImplementedError

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        """The pairs kept, in order, with the step's columns set.

        Raises:
            LabelError: the step cannot work on these pairs.
        """
        raise NotImplementedError

    def plain(self) -> dict[str, Any]:
        """The step as JSON-like values with every option spelled out."""
        return {self.name: {option(f.name): _plain(getattr(self, f.name)) for f in fields(self)}}

    def identity(self) -> dict[str, Any]:
        """The step as it stands in keys (identity.py)."""
        return {self.name: {option(name): _plain(value) for name, value in identity(settled(self), self).items()}}


def option(field: str) -> str:
    """How a field is written in a recipe."""
    return field.rstrip("_")


def one_of(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    """Raise LabelError unless every value of option `name` is known."""
    for value in values:
        if value not in known:
            error = unknown_name(name, value, list(known))
            raise LabelError(error.problem, error.remedy)


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise LabelError unless low < value <= high."""
    if not low < value <= high:
        raise LabelError(f"{name}={value:g} is not in ({low:g}, {high:g}].", f"Set it above {low:g}, up to {high:g}.")


def named_once(what: str, names: Sequence[str]) -> None:
    """Raise LabelError unless there are names, each once."""
    if not names:
        raise LabelError(f"There are no {what}s.", f"Name at least one {what}.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise LabelError(f"The {what} {twice!r} is named twice.", "Name it once; votes can be weighted by `weights`.")


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "nobody"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
