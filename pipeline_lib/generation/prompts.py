"""Prompts to compare models on: by the name of a set or from a file, and the check that none was trained on."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline_lib.core.digest import digest
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.registry import Registry, unknown_name
from pipeline_lib.core.store import Dataset
from pipeline_lib.core.urls import local_path
from pipeline_lib.data.prompts import normalise_prompt, prompt_id
from pipeline_lib.generation.prompt_files import read_prompts

Truth = Callable[[Sequence[Image.Image], Sequence[str]], NDArray[np.float32]]
"""The true utility (n,) of n images for their prompts; higher is better."""


@dataclass(frozen=True)
class PromptSet:
    """Distinct prompts in order. `truth` measures images where the right answer is known, else None; `categories`
    holds each prompt's where the set has them, else nothing."""

    name: str
    prompts: tuple[str, ...]
    truth: Truth | None = None
    categories: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Identity of the prompts themselves, whatever the set is called."""
        return digest(list(self.prompts), 16)


_SETS = "pipeline_lib.generation.prompt_sets"
PROMPT_SETS: Registry[Callable[[], PromptSet]] = Registry(
    "prompt set",
    {
        "shapes-test": f"{_SETS}:shapes_test",
        "shapes-heldout": f"{_SETS}:shapes_test",
        "shapes-validation": f"{_SETS}:shapes_validation",
        "pickapic-validation-unique": f"{_SETS}:pickapic_validation_unique",
        "pickapic-test-unique": f"{_SETS}:pickapic_test_unique",
        "partiprompts": f"{_SETS}:partiprompts",
        "hpdv2": f"{_SETS}:hpdv2",
        "drawbench": f"{_SETS}:drawbench",
    },
)
HUB_SETS = ("pickapic-validation-unique", "pickapic-test-unique", "partiprompts", "hpdv2", "drawbench")
"""Those that are fetched from the model hub."""
HELD_OUT = "heldout"
"""The name that means the prompts of held-out pairs: an ingest dataset beside the one trained on."""


def load_prompts(name: str, num_prompts: int | None = None, held_out: Dataset | None = None) -> PromptSet:
    """A prompt set by registered name, or from a text file.

    Args:
        name: a name of PROMPT_SETS; HELD_OUT; or the path of a file (prompt_files.py).
        num_prompts: keep this many, chosen by the hash of their text: an even sample of an ordered list (PartiPrompts
            is sorted by category), and a larger number contains a smaller one. None keeps all.
        held_out: the finished ingest dataset whose prompts HELD_OUT means.

    Raises:
        UnknownNameError: neither a known name nor a file.
        TextFileError: the file cannot be read.
        ConfigError: no prompt in the file, fewer than `num_prompts`, or HELD_OUT without its dataset.
        HubError: the set is on the hub, which cannot be reached.
    """
    check_name(name)
    path = local_path(name)
    if name in PROMPT_SETS:
        found = PROMPT_SETS.get(name)()
    elif name == HELD_OUT:
        found = _of_pairs(held_out)
    else:
        found = from_file(path.name, path)
    texts = [normalise_prompt(prompt) for prompt in found.prompts]
    category = dict(zip(reversed(texts), reversed(found.categories), strict=False))  # of a repeated prompt, the first
    prompts = tuple(dict.fromkeys(text for text in texts if text))
    if not prompts:
        raise ConfigError(
            f"The prompt set {name!r} is empty.", "Give a file with one prompt per line, or a column of prompts."
        )
    if num_prompts is not None:
        if not 0 < num_prompts <= len(prompts):
            raise ConfigError(
                f"num_prompts is {num_prompts}, but {name!r} has {len(prompts)} distinct prompts.",
                f"Choose a number from 1 to {len(prompts)}, or None for all.",
            )
        chosen = set(sorted(prompts, key=prompt_id)[:num_prompts])
        prompts = tuple(p for p in prompts if p in chosen)
    return PromptSet(found.name, prompts, found.truth, tuple(category[p] for p in prompts) if category else ())


def check_name(name: str) -> None:
    """Raise UnknownNameError, or ConfigError, for what names no prompt set and no file."""
    if not (name in PROMPT_SETS or name == HELD_OUT or local_path(name).is_file()):
        raise unknown_name("prompt set (or file)", name, sorted([*PROMPT_SETS.names(), HELD_OUT]))


def leaked(prompts: Iterable[str], training_pairs: Dataset) -> tuple[str, ...]:
    """The prompts that occur among the prompts of a finished ingest dataset, ignoring case, form and white space.

    Any row counts, whether or not a label recipe or a training run later leaves it out.
    """
    trained = training_pairs.scan("pairs").select("prompt").unique().collect()["prompt"].to_list()
    seen = {_loose(prompt) for prompt in trained}
    return tuple(prompt for prompt in prompts if _loose(prompt) in seen)


def from_file(name: str, path: Path) -> PromptSet:
    """The prompts of a file, by the table of prompt_files.py, as a set of that name; raises TextFileError."""
    prompts, categories = read_prompts(path)
    return PromptSet(name, tuple(prompts), categories=tuple(categories))


def _of_pairs(pairs: Dataset | None) -> PromptSet:
    if pairs is None:
        raise ConfigError(
            f"The prompt set {HELD_OUT!r} needs held-out pairs, and there are none.",
            "Give `heldout`, an ingest dataset of another split, or choose another prompt set.",
        )
    prompts = pairs.scan("pairs").select("prompt").unique(maintain_order=True).collect()["prompt"]
    return PromptSet(HELD_OUT, tuple(prompts.to_list()))


def _loose(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
