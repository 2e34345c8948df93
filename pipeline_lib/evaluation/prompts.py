"""Prompt sets by name, what is known about them, and the check that none was trained on."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pipeline_lib.digest import digest
from pipeline_lib.errors import ConfigError, EvaluationError, HubError
from pipeline_lib.ingest import normalise_prompt, prompt_id
from pipeline_lib.registry import Registry, unknown_name
from pipeline_lib.store import Dataset

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


PROMPT_SETS: Registry[Callable[[], PromptSet]] = Registry(
    "prompt set",
    {
        "shapes-test": "pipeline_lib.evaluation.prompts:shapes_test",
        "shapes-validation": "pipeline_lib.evaluation.prompts:shapes_validation",
        "pickapic-validation-unique": "pipeline_lib.evaluation.prompts:pickapic_validation_unique",
        "partiprompts": "pipeline_lib.evaluation.prompts:partiprompts",
    },
)

PARTIPROMPTS = ("nateraw/parti-prompts", "944b156abfdad7627c3221b5ec4f6a6fb060a197", "PartiPrompts.tsv")
PICKAPIC = ("liuhuohuo2/pick-a-pic-v2", "f602d48", "data/validation_unique-*.parquet")
"""Repository, revision and file of the sets that live on the hub (the original Pick-a-Pic repository is gone)."""


def load_prompts(name: str, num_prompts: int | None = None) -> PromptSet:
    """A prompt set by registered name, or from a text file.

    Args:
        name: a name of PROMPT_SETS, or the path of a file: one prompt per line, or a `.tsv` with a `Prompt` column
            and perhaps a `Category` column.
        num_prompts: keep this many, chosen by the hash of their text: an even sample of an ordered list (PartiPrompts
            is sorted by category), and a larger number contains a smaller one. None keeps all.

    Raises:
        UnknownNameError: neither a known name nor a file.
        ConfigError: no prompt in the file, or fewer than `num_prompts`.
        HubError: the set is on the hub, which cannot be reached.
    """
    path = Path(name).expanduser()
    if name in PROMPT_SETS.targets:
        found = PROMPT_SETS.get(name)()
    elif path.is_file():
        found = _from_file(path.name, path)
    else:
        raise unknown_name("prompt set (or file)", name, PROMPT_SETS.names())
    texts = [normalise_prompt(prompt) for prompt in found.prompts]
    category = dict(zip(reversed(texts), reversed(found.categories), strict=False))  # of a repeated prompt, the first
    prompts = tuple(dict.fromkeys(text for text in texts if text))
    if not prompts:
        raise ConfigError(f"The prompt set {name!r} is empty.", "Give a file with one prompt per line.")
    if num_prompts is not None:
        if not 0 < num_prompts <= len(prompts):
            raise ConfigError(
                f"num_prompts is {num_prompts}, but {name!r} has {len(prompts)} distinct prompts.",
                f"Choose a number from 1 to {len(prompts)}, or None for all.",
            )
        chosen = set(sorted(prompts, key=prompt_id)[:num_prompts])
        prompts = tuple(p for p in prompts if p in chosen)
    return PromptSet(found.name, prompts, found.truth, tuple(category[p] for p in prompts) if category else ())


def leaked(prompts: Iterable[str], training_pairs: Dataset) -> tuple[str, ...]:
    """The prompts that occur among the prompts of a finished ingest dataset, ignoring case, form and white space.

    Any row counts, whether or not a label recipe or a training run later leaves it out.
    """
    trained = training_pairs.scan("pairs").select("prompt").unique().collect()["prompt"].to_list()
    seen = {_loose(prompt) for prompt in trained}
    return tuple(prompt for prompt in prompts if _loose(prompt) in seen)


def shapes_test() -> PromptSet:
    """The built-in world's 256 test captions, with the known truth."""
    return _shapes("test")


def shapes_validation() -> PromptSet:
    """The built-in world's 128 validation captions (for choosing hyper-parameters), with the known truth."""
    return _shapes("validation")


def partiprompts() -> PromptSet:
    """PartiPrompts (Yu et al. 2022), 1,632 prompts in 12 categories, from the hub."""
    (file,) = _hub_files(*PARTIPROMPTS)
    return _from_file("partiprompts", file)


def pickapic_validation_unique() -> PromptSet:
    """Pick-a-Pic's validation_unique split: 500 prompts, each by another user; the set most papers report on."""
    tables = [pq.read_table(file, columns=["caption"]) for file in _hub_files(*PICKAPIC)]
    return PromptSet("pickapic-validation-unique", tuple(c for table in tables for c in table["caption"].to_pylist()))


def _shapes(split: Literal["test", "validation"]) -> PromptSet:
    from pipeline_lib.shapes.grammar import parse, split_captions

    captions = split_captions(split)
    return PromptSet(f"shapes-{split}", captions, _shapes_truth, tuple(parse(caption).shape for caption in captions))


def _shapes_truth(images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float32]:
    from pipeline_lib.shapes.renderer import SIDE
    from pipeline_lib.shapes.truth import true_utility

    wrong = {image.size for image in images} - {(SIDE, SIDE)}
    if wrong:
        raise EvaluationError(
            f"The true utility of the shapes world is defined on {SIDE}x{SIDE} pixels; got {sorted(wrong)}.",
            f"Set resolution={SIDE}.",
        )
    return true_utility(np.stack([np.asarray(image.convert("RGB")) for image in images]), prompts)


def _hub_files(repo: str, revision: str, pattern: str) -> list[Path]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    where = f"{pattern} of the dataset {repo}@{revision}"
    try:
        folder = snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns=[pattern])
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise HubError(
            f"Cannot download {where}: the hub cannot be reached or refuses, and the local cache does not have it.",
            "Check the network, HF_ENDPOINT and HF_TOKEN, or give a text file of prompts.",
        ) from error
    files = sorted(Path(folder).glob(pattern))
    if not files:
        raise HubError(f"There is no {where}.", "Check the repository's files, or give a text file of prompts.")
    return files


def _from_file(name: str, path: Path) -> PromptSet:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix != ".tsv":
        return PromptSet(name, tuple(text.splitlines()))
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    if "Prompt" not in (rows.fieldnames or ()):
        raise ConfigError(
            f"{path} has no column 'Prompt'; it has {', '.join(rows.fieldnames or ['none'])}.",
            "Name the column of prompts 'Prompt', or give a .txt file with one prompt per line.",
        )
    found = [(row["Prompt"] or "", row.get("Category") or "none") for row in rows]
    categories = tuple(category for _, category in found) if "Category" in (rows.fieldnames or ()) else ()
    return PromptSet(name, tuple(prompt for prompt, _ in found), categories=categories)


def _loose(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
