"""What a scorer is, before (`Located`) and after (`Scorer`) its weights are in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.digest import current_sha256, digest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pipeline_lib.scoring.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class ImageTower:
    """The part of a scorer that sees only the image. Scorers that hold the same object share its forward pass.

    Attributes:
        preprocess: decoded RGB image -> float32 pixels (3, size, size).
        encode: pixels (n, 3, size, size) on the runtime's device -> features (n, ...).
    """

    preprocess: Preprocess
    encode: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Scorer:
    """A loaded reward model.

    Attributes:
        name: its name in the registry.
        needs_prompt: False for scorers that look at the image alone.
        tower: the image side.
        encode_prompts: texts -> one row of features (or token ids) per text, on the runtime's device.
        score: image features (n, ...) and prompt features (n, ...) -> float32 scores (n,); scorers that need no prompt
            ignore the second argument. Higher is better.
    """

    name: str
    needs_prompt: bool
    tower: ImageTower
    encode_prompts: Callable[[Sequence[str]], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Runtime:
    """Where scorers run, and what they share.

    Attributes:
        dtype: of the towers; normalisation, dot products and heads are always fp32.
        shared: parts used by more than one scorer, by what they are made of.
    """

    device: torch.device
    dtype: torch.dtype
    shared: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def share(self, key: tuple[Any, ...], build: Callable[[], Any]) -> Any:
        """The part built earlier under `key`, or `build()`."""
        if key not in self.shared:
            self.shared[key] = build()
        return self.shared[key]


@dataclass(frozen=True)
class Located:
    """A scorer whose files have been found; nothing has been read yet.

    Attributes:
        version: raise it when the same files and image would give another score.
        preprocess: name and version of the image preparation.
        files: every file that decides the score, by a name that does not depend on where it lies.
        column: name of its column in tables with a column per scorer, where `name` alone leaves the backbone open.
    """

    name: str
    version: int
    needs_prompt: bool
    preprocess: str
    files: Mapping[str, Path]
    load: Callable[[Runtime], Scorer]
    column: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "column", self.column or self.name)

    def identity(self) -> dict[str, Any]:
        """What decides the scores, as JSON-like values: part of the dataset's key and of its Parquet metadata."""
        hashes = {name: current_sha256(path) for name, path in self.files.items()}
        return {
            "scorer": self.name,
            "column": self.column,
            "version": self.version,
            "preprocess": self.preprocess,
            "weights": digest(hashes, 16),
        }


LocateScorer = Callable[[str], Located]
"""Finds a scorer's files on the hub or in a mirror; raises HubError."""


def no_prompts(prompts: Sequence[str]) -> Tensor:
    """`Scorer.encode_prompts` of scorers that look at the image alone: rows of width zero."""
    import torch

    return torch.empty(len(prompts), 0)


def files_in(folder: Path, patterns: Sequence[str]) -> dict[str, Path]:
    """The files of `folder` that match any of the glob patterns, by name, sorted."""
    return {path.name: path for path in sorted({p for pattern in patterns for p in folder.glob(pattern)})}
