"""Prompts as all stages have them: the text that they are grouped by, and its id."""

from __future__ import annotations

import unicodedata

from pipeline_lib.core.digest import text_id


def normalise_prompt(text: str) -> str:
    """Unicode NFC, no outer white space, runs of inner white space made one space: what prompts are grouped by."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def prompt_id(prompt: str) -> str:
    """The id of a normalised prompt."""
    return text_id(prompt)
