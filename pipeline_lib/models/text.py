"""A pipeline's tokenizers and text encoders, from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.core.weights.files import TRANSFORMERS
from pipeline_lib.core.weights.read import check, reading, text_config, text_encoder
from pipeline_lib.models.parts import is_encoder

VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""Files of which a CLIP tokenizer needs one set: without any the library makes a vocabulary of nothing."""


def load_text_parts(root: Path, parts: Sequence[str], dtype: torch.dtype) -> dict[str, Any]:
    """Tokenizers and text encoders by their names in the pipeline.

    Raises:
        CheckpointError: one is not whole, or a tokenizer has tokens that its encoder does not know.
    """
    loaded = {
        part: text_encoder(encoder_class(part), root / part, dtype)
        if is_encoder(part)
        else load_tokenizer(root / part)
        for part in parts
    }
    for part in filter(is_encoder, parts):
        _check_tokens(root / part, loaded[_tokenizer_of(part)], loaded[part].config)
    return loaded


def check_text_parts(root: Path, parts: Sequence[str]) -> int:
    """Raise CheckpointError where `load_text_parts` would; the sum of the widths of the encoders' states."""
    width = 0
    for part in filter(is_encoder, parts):
        check(encoder_class(part), root / part, TRANSFORMERS)
        config = text_config(encoder_class(part), root / part)
        _check_tokens(root / part, load_tokenizer(root / _tokenizer_of(part)), config)
        width += config.hidden_size
    return width


def load_tokenizer(path: Path) -> Any:
    """A CLIP tokenizer from its folder; raises CheckpointError."""
    if not any(all((path / name).is_file() for name in names) for names in VOCABULARIES):
        raise CheckpointError(
            f"{path} has no vocabulary: neither {VOCABULARIES[0][0]} nor {' with '.join(VOCABULARIES[1])}.",
            "Fetch the repository again.",
        )
    with reading(path, "a CLIP tokenizer", "Fetch the repository again."):
        return transformers.CLIPTokenizer.from_pretrained(path, local_files_only=True)


def encoder_class(part: str) -> Any:
    """The class of a text encoder, by its name in the pipeline."""
    return transformers.CLIPTextModelWithProjection if part == "text_encoder_2" else transformers.CLIPTextModel


def _tokenizer_of(encoder: str) -> str:
    return encoder.replace("text_encoder", "tokenizer")


def _check_tokens(path: Path, tokenizer: Any, config: Any) -> None:
    if len(tokenizer) > config.vocab_size:
        raise CheckpointError(
            f"{path} has embeddings of {config.vocab_size} tokens, its tokenizer {len(tokenizer)}.",
            "Give the tokenizer that the text encoder was trained with.",
        )
