"""The prompt sets that `prompts.PROMPT_SETS` names: of the built-in world, and of the benchmarks on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pipeline_lib.core.errors import EvaluationError, HubError
from pipeline_lib.core.json_files import json_value
from pipeline_lib.generation.prompts import PromptSet, from_file

PARTIPROMPTS = ("nateraw/parti-prompts", "944b156abfdad7627c3221b5ec4f6a6fb060a197", "PartiPrompts.tsv")
HPDV2 = (
    "zhwang/HPDv2",
    "b9517430f34b1080d4f741118d2a440155a165cd",
    *(f"benchmark/{style}.json" for style in ("anime", "concept-art", "paintings", "photo")),
)
DRAWBENCH = ("sayakpaul/drawbench", "ad794cba698c253ffdb6d18eff3fc87b004c1135", "DrawBench Prompts - Sheet1.csv")
"""Repository, revision and files of the sets that live on the hub; the revisions are those that others published."""
PICKAPIC = ("liuhuohuo2/pick-a-pic-v2", "f602d48")
"""Repository and revision (the original Pick-a-Pic repository is gone)."""


def shapes_test() -> PromptSet:
    """The built-in world's 256 test captions, which no shipped pair shows, with the known truth."""
    return _shapes("test")


def shapes_validation() -> PromptSet:
    """The built-in world's 128 validation captions (for choosing hyper-parameters), with the known truth."""
    return _shapes("validation")


def partiprompts() -> PromptSet:
    """PartiPrompts (Yu et al. 2022), 1,632 prompts in 12 categories, from the hub."""
    (file,) = _hub_files(*PARTIPROMPTS)
    return from_file("partiprompts", file)


def hpdv2() -> PromptSet:
    """The benchmark of HPSv2 (Wu et al. 2023), 800 prompts in each of four styles, from the hub."""
    found = [(prompt, file.stem) for file in _hub_files(*HPDV2) for prompt in _texts(file)]
    return PromptSet("hpdv2", tuple(prompt for prompt, _ in found), categories=tuple(style for _, style in found))


def drawbench() -> PromptSet:
    """DrawBench (Saharia et al. 2022), 200 prompts in 11 categories, from the hub."""
    (file,) = _hub_files(*DRAWBENCH)
    return from_file("drawbench", file)


def pickapic_validation_unique() -> PromptSet:
    """Pick-a-Pic's validation_unique split: 500 prompts, each by another user; the set most papers report on."""
    return _pickapic("validation_unique")


def pickapic_test_unique() -> PromptSet:
    """Pick-a-Pic's test_unique split: 500 prompts, each by another user."""
    return _pickapic("test_unique")


def _texts(file: Path) -> list[str]:
    """A JSON array of texts from the hub."""
    remedy = "Fetch the repository again."
    found = json_value(file.read_bytes(), str(file), HubError, remedy)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise HubError(f"{file} is no JSON array of prompts.", remedy)
    return found


def _pickapic(split: str) -> PromptSet:
    files = _hub_files(*PICKAPIC, f"data/{split}-*.parquet")
    tables = [pq.read_table(file, columns=["caption"]) for file in files]
    name = f"pickapic-{split.replace('_', '-')}"
    return PromptSet(name, tuple(c for table in tables for c in table["caption"].to_pylist()))


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


def _hub_files(repo: str, revision: str, *patterns: str) -> list[Path]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    where = f"{' or '.join(patterns)} of the dataset {repo}@{revision}"
    try:
        folder = snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns=list(patterns))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise HubError(
            f"Cannot download {where}: the hub cannot be reached or refuses, and the local cache does not have it.",
            "Check the network, HF_ENDPOINT and HF_TOKEN, or give a text file of prompts.",
        ) from error
    files = {pattern: sorted(Path(folder).glob(pattern)) for pattern in patterns}
    for pattern, found in files.items():
        if not found:
            raise HubError(
                f"There is no {pattern} of the dataset {repo}@{revision}.",
                "Check the repository's files, or give a text file of prompts.",
            )
    return [file for found in files.values() for file in found]
