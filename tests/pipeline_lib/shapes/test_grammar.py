from __future__ import annotations

import pytest

from pipeline_lib.shapes import grammar


def test_every_caption_parses_back_to_its_scene() -> None:
    captions = grammar.all_captions()
    assert len(set(captions)) == len(captions) == 1500
    assert all(grammar.parse(caption).caption == caption for caption in captions)


def test_white_space_and_case_do_not_matter() -> None:
    wanted = grammar.Scene("large", "red", "circle", "top", "dark blue")
    assert grammar.parse("  A large  red circle at the top of a DARK blue background\n") == wanted


@pytest.mark.parametrize("text", ["", "a large red dog on a gray background", "a red circle on a gray background"])
def test_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write e\.g\."):
        grammar.parse(text)


def test_splits_are_disjoint_complete_and_large_enough() -> None:
    train, validation, test = (set(grammar.split_captions(name)) for name in ("train", "validation", "test"))
    assert len(test) == 256
    assert len(validation) == 128
    assert not (train & validation or train & test or validation & test)
    assert train | validation | test == set(grammar.all_captions())


def test_every_word_of_the_grammar_is_in_the_train_split() -> None:
    def words(captions: tuple[str, ...]) -> set[str]:
        return {word for caption in captions for word in caption.split()}

    assert words(grammar.split_captions("train")) == words(grammar.all_captions())
