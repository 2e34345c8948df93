"""`model_index.json`: which class of which library each part of a pipeline is. Loads neither torch nor diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import CheckpointError, excerpt
from pipeline_lib.core.weights.files import json_object

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")
"""What a pipeline's parts may be classes of; others would be imported, or be code beside the weights."""
CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
"""What each part of the families known here may be; schedulers are checked where their noise process is read."""
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
"""What a tokenizer is loaded from."""
_REMEDY = "Give a pipeline as diffusers' save_pretrained writes it."


def read_index(path: Path) -> dict[str, Any]:
    """The content of a pipeline's index; raises CheckpointError where it is none."""
    index = json_object(path)
    if not isinstance(index.get("_class_name"), str | list):
        raise CheckpointError(f"{path} does not say which pipeline it is of: it has no _class_name.", _REMEDY)
    return index


def pipeline_class(index: Mapping[str, Any]) -> str:
    """The pipeline's class; of one with code of its own, the names of its file and class."""
    name = index["_class_name"]
    return name if isinstance(name, str) else excerpt(name)


def check_parts(path: Path, index: Mapping[str, Any], parts: Sequence[str]) -> None:
    """Check that the parts that are used are of the classes that are loaded for them.

    Raises:
        CheckpointError: a part is not named, or is another class's or code of the repository's own.
    """
    for part in parts:
        entry = index.get(part)
        if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(name, str) for name in entry)):
            raise CheckpointError(f"{path} names no class for {part}: {excerpt(entry)}.", _REMEDY)
        library, name = entry
        if library not in LIBRARIES:
            raise CheckpointError(
                f"{path} takes parts from {library}: code that is not run here.",
                f"Give a pipeline whose parts are those of {' and '.join(LIBRARIES)}.",
            )
        if part in CLASSES and name not in CLASSES[part]:
            raise CheckpointError(
                f"{path}: {part} is a {name}; known here is {' or '.join(CLASSES[part])}.",
                "Choose another base model.",
            )


def unused_parts(index: Mapping[str, Any], cls: type, used: Sequence[str]) -> list[str]:
    """Parts that the index names and the class takes, but that nothing here needs: they are not loaded."""
    known = inspect.signature(cls).parameters
    return [part for part, entry in index.items() if isinstance(entry, list) and part in known and part not in used]
