"""What a scorer is: as it declares itself (`ImageScorer`), with its files found (`Located`), and loaded (`Scorer`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A file that says whether its repository can be read.

    Attributes:
        repo, revision: the official repository, pinned.
        bytes: what the scorer reads of the repository, rounded; 0 for less than a few megabytes.
        host: "hub" is the model hub.
    """

    repo: str
    revision: str
    file: str
    bytes: int = 0
    host: Literal["hub", "github"] = "hub"


@dataclass(frozen=True, kw_only=True)
class Tower:
    """An image tower: its name, the same for scorers that share its forward pass, and the FLOPs of one image."""

    name: str
    flops: int


@dataclass(frozen=True, kw_only=True)
class ImageScorer:
    """A reward model as it declares itself: all that others know of it. Reading it loads no torch.

    Attributes:
        name: in the registry, in recipes and in datasets.
        label: as reports write it.
        locate: finds its files.
        needs: its files, one for each repository.
        licence: of the weights, by SPDX; "" where their repository names none.
        tower: what sees the image. Scorers that name the same tower cost one forward pass.
        prompt_flops: of one prompt through the text tower.
        question_flops: of one image together with one prompt, beyond a dot product.
        needs_prompt: False for scorers that look at the image alone.
        embeds: the tower gives one embedding per image, which tells the diversity of images.
        default: presets run it.
    """

    kind: ClassVar[Literal["image"]] = "image"

    name: str
    label: str
    locate: LocateScorer
    needs: tuple[WeightsFile, ...]
    licence: str = ""
    tower: Tower
    prompt_flops: int = 0
    question_flops: int = 0
    needs_prompt: bool = True
    embeds: bool = False
    default: bool = False

    @property
    def bytes(self) -> int:
        """Of all its files, those included that other scorers read as well."""
        return sum(file.bytes for file in self.needs)


def no_prompts(prompts: Sequence[str]) -> Tensor:
    """`Scorer.encode_prompts` of scorers that look at the image alone: rows of width zero."""
    import torch

    return torch.empty(len(prompts), 0)


def files_in(folder: Path, patterns: Sequence[str]) -> dict[str, Path]:
    """The files of `folder` that match any of the glob patterns, by name, sorted."""
    return {path.name: path for path in sorted({p for pattern in patterns for p in folder.glob(pattern)})}
