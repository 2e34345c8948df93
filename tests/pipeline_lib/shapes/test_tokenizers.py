from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.shapes import tokenizers
from pipeline_lib.shapes.grammar import all_captions

ODD = ["", "Héllo, WORLD! it's 42", "日本語 😀", "a {weird} <|thing|> \\ ~^`", "masterpiece, 8k, (ultra:1.2) " * 20]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers")
    tokenizers.write_clip_tokenizer(folder / "clip")
    tokenizers.write_open_clip_merges(folder / "clip")
    tokenizers.write_bert_tokenizer(folder / "bert")
    return folder


def test_words_of_the_grammar_are_single_tokens(folder: Path) -> None:
    from transformers import BertTokenizer, CLIPTokenizer

    clip = CLIPTokenizer.from_pretrained(folder / "clip")
    bert = BertTokenizer.from_pretrained(folder / "bert")
    for caption in all_captions()[::50]:
        assert clip.tokenize(caption) == [f"{word}</w>" for word in caption.split()]
        assert bert.tokenize(caption) == caption.split()


@pytest.mark.parametrize("text", ODD)
def test_every_text_fits_and_open_clip_agrees(folder: Path, text: str) -> None:
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    clip = CLIPTokenizer.from_pretrained(folder / "clip")
    ids = clip(text, padding="max_length", truncation=True)["input_ids"]
    assert len(ids) == tokenizers.CONTEXT
    assert max(ids) < len(tokenizers.clip_vocabulary())
    if "<|" in text:
        return  # open_clip and transformers split this one differently, as with the full vocabulary
    merges = str(folder / "clip" / "bpe_simple_vocab.txt.gz")
    theirs = SimpleTokenizer(bpe_path=merges, context_length=tokenizers.CONTEXT)([text])[0].tolist()
    end = tokenizers.clip_vocabulary()[tokenizers.END]
    assert theirs[: theirs.index(end) + 1] == ids[: ids.index(end) + 1]


@pytest.mark.parametrize("text", ODD)
def test_bert_tokenises_every_text(folder: Path, text: str) -> None:
    from transformers import BertTokenizer

    bert = BertTokenizer.from_pretrained(folder / "bert")
    ids = bert(text, padding="max_length", truncation=True, max_length=35)["input_ids"]
    assert len(ids) == 35
    assert max(ids) < len(tokenizers.bert_vocabulary())
    if text.isascii():
        assert bert.unk_token_id not in ids
