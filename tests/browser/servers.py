"""The servers' own pages in Chromium, from a profile that can reach nothing but this machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, Route

LOADED_MS = 90_000
"""What a page may take on a busy machine."""
COMPLETED = (33, 157, 75)
"""The colour of a completed run in Prefect's graph."""


@dataclass
class Visit:
    """A page, and the addresses beyond this machine that it asked for, in vain."""

    page: Page
    outside: list[str] = field(default_factory=list)

    def shows(self, *texts: str) -> None:
        """Wait until each text, all that an element says, can be seen."""
        for text in texts:
            self.page.get_by_text(text, exact=True).locator("visible=true").first.wait_for()


@contextmanager
def visit(browser: Browser) -> Iterator[Visit]:
    """A page in a new profile."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(LOADED_MS)
    found = Visit(context.new_page())

    def guard(route: Route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            found.outside.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    yield found
    context.close()


def drawn_in(colour: tuple[int, int, int], picture: bytes) -> int:
    """How many pixels of a PNG have the colour, give or take what blending does."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.int16)
    return int((np.abs(pixels - colour).max(axis=2) < 12).sum())
