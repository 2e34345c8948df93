"""Reads a page as a browser does, as far as tests ask."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """All elements of a page with their attributes; fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def check(self) -> None:
        """What holds for every page: no request, unique ids, references that lead somewhere, texts for pictures."""
        for tag, attributes in self.elements:
            for name in ("src", "href"):
                assert (attributes.get(name) or "data:").startswith("../../" if tag == "a" else "data:")
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for _, attributes in self.elements:
            for name in ("aria-labelledby", "for", "data-copy"):
                assert set((attributes.get(name) or "").split()) <= set(ids)
        assert all(image["alt"] for image in self.all("img"))
        assert all(svg.get("aria-hidden") or svg.get("role") == "img" or svg.get("x") for svg in self.all("svg"))
