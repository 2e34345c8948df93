"""The commands and the code that the docs show: README.md, CONTRIBUTING.md and every page of docs/."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
RUN = ["prefect", "deployment", "run"]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.strip().splitlines()[0][:60]}"


@dataclass(frozen=True)
class Command:
    """A line of a shell block, continued lines joined."""

    page: str
    text: str

    @property
    def words(self) -> list[str]:
        """Its words without the comment."""
        return shlex.split(self.text, comments=True)

    @property
    def is_run(self) -> bool:
        """Whether it starts a run of a deployment."""
        return self.words[:3] == RUN

    def __str__(self) -> str:
        return f"{self.page}: {self.text[:60]}"


def blocks(language: str) -> list[Block]:
    """Every block of a language, page by page."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        Block(str(page.relative_to(ROOT)), found, dedent(text))
        for page in pages
        for _, found, text in FENCE.findall(page.read_text(encoding="utf-8"))
        if found == language
    ]


def commands() -> list[Command]:
    """Every command of every page."""
    return [Command(block.page, line) for block in blocks("sh") for line in _lines(block.text)]


def _lines(text: str) -> Iterator[str]:
    joined = text.replace("\\\n", " ")
    return (line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#"))
