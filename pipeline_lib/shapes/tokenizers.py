"""The small vocabularies of the built-in world, in the file formats of CLIP's BPE and BERT's WordPiece.

Every text tokenises: CLIP's has all 256 byte units (with and without the end-of-word mark), BERT's has every printable
ASCII character and its continuation piece. The grammar's words are single tokens in both.
"""

from __future__ import annotations

import gzip
import itertools
import json
import string
from collections import Counter
from functools import cache
from pathlib import Path

from pipeline_lib.shapes.grammar import all_captions

CONTEXT = 24
"""Tokens of a text, with start and end; the longest caption has 14."""

BERT_CONTEXT = 64
START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def words() -> tuple[str, ...]:
    """The grammar's words, sorted."""
    return tuple(sorted({word for caption in all_captions() for word in caption.split()}))


@cache
def merges() -> tuple[tuple[str, str], ...]:
    """Byte-pair merges, most frequent first, learned until each word of the grammar is one token."""
    pieces = {word: [*word[:-1], f"{word[-1]}</w>"] for word in words()}
    learned: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for parts in pieces.values() for pair in itertools.pairwise(parts))
        if not pairs:
            return tuple(learned)
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        pieces = {word: _merged(parts, best) for word, parts in pieces.items()}


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def byte_units() -> list[str]:
    """CLIP's printable stand-ins for the 256 bytes, in CLIP's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


@cache
def clip_vocabulary() -> dict[str, int]:
    """Token -> id: byte units, byte units that end a word, merges, start, end (the greatest id, as in CLIP)."""
    units = byte_units()
    tokens = [*units, *(f"{unit}</w>" for unit in units), *("".join(pair) for pair in merges()), START, END]
    return {token: index for index, token in enumerate(tokens)}


def write_clip_tokenizer(folder: Path) -> None:
    """The files of a CLIPTokenizer that every version of transformers reads, each the same ids.

    Version 4 reads the vocabulary, the merges and the map of special tokens, version 5 `tokenizer.json`.
    """
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    rows = ["#version: 0.2", *(" ".join(pair) for pair in merges())]
    (folder / "merges.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary(), ensure_ascii=False), encoding="utf-8")
    tokenizer = CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=CONTEXT,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=END,
    )
    tokenizer.save_pretrained(folder)
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")


def write_open_clip_merges(folder: Path) -> None:
    """`bpe_simple_vocab.txt.gz` for open_clip.SimpleTokenizer(bpe_path=...); the same ids as the CLIP tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["#version: 0.2", *(" ".join(pair) for pair in merges())]
    # No newline at the end: open_clip would read an empty last line as one more merge, and shift the special tokens.
    data = gzip.compress("\n".join(rows).encode(), mtime=0)
    (folder / "bpe_simple_vocab.txt.gz").write_bytes(data)


@cache
def bert_vocabulary() -> tuple[str, ...]:
    """Pieces by id: special tokens, printable ASCII characters alone and continued, the grammar's words."""
    characters = [character for character in string.printable if not character.isspace()]
    characters = [character for character in characters if not character.isupper()]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    return (*pieces, *(word for word in words() if word not in pieces))


def write_bert_tokenizer(folder: Path) -> None:
    """BertTokenizer files (lower-casing, as bert-base-uncased)."""
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(bert_vocabulary()) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True, model_max_length=BERT_CONTEXT)
    tokenizer.save_pretrained(folder)
