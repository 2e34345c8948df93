"""Tokenizer files as the hub's repositories hold them, written by the transformers of their time."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import clip
from clip.simple_tokenizer import bytes_to_unicode
from transformers import BertTokenizerFast, CLIPTokenizerFast

SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
BERT_SIZE = 30522


def clip_merges() -> list[str]:
    """The 48,894 merges of CLIP's vocabulary, which the clip package carries."""
    packed = Path(clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    return gzip.decompress(packed.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]


def write_clip(folder: Path) -> None:
    """CLIP's tokenizer: vocab.json, merges.txt, tokenizer.json, tokenizer_config.json."""
    units, merges = list(bytes_to_unicode().values()), clip_merges()
    joined = ["".join(merge.split()) for merge in merges]
    tokens = [*units, *(f"{unit}</w>" for unit in units), *joined, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    files = [str(folder / "vocab.json"), str(folder / "merges.txt")]
    CLIPTokenizerFast(*files, model_max_length=77).save_pretrained(folder)


def write_bert(folder: Path) -> None:
    """A WordPiece vocabulary of BERT's size and layout, with words and word parts from CLIP's.

    BERT's own is in none of the packages. Special tokens have BERT's places; single characters come first, as there,
    so that every word of Latin letters can be spelt, and characters without an entry become [UNK].
    """
    characters = [chr(code) for code in [*range(33, 127), *range(161, 384)] if chr(code) == chr(code).lower()]
    pieces = [SPECIAL.get(index, f"[unused{index}]") for index in range(999)]
    pieces += [*characters, *(f"##{character}" for character in characters)]
    for merge in clip_merges():
        text = "".join(merge.split())
        word = text.removesuffix("</w>")
        if word.isalnum() and word.isascii():
            pieces += [word] if word != text else [f"##{word}", word]
    vocabulary = list(dict.fromkeys(pieces))[:BERT_SIZE]
    assert len(vocabulary) == BERT_SIZE
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True, model_max_length=512).save_pretrained(folder)
