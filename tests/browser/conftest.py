"""Chromium, opened once for all tests of this folder, and the pages that they look at.

Playwright (PyPI) drives a Chromium that is installed already; the tests skip where there is none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.browser.made import make_pages
from tests.browser.opened import Opened, open_page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "no Chromium: `apt install chromium`, or `.venv/bin/playwright install chromium`"
SCREENSHOTS = Path(__file__).resolve().parents[2] / ".state" / "screenshots"


def chromium(playwright: Playwright) -> str | None:
    """The browser to start: $CHROMIUM, one on the PATH, or Playwright's own."""
    own = playwright.chromium.executable_path
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, BROWSERS), own if Path(own).exists() else None]
    return next((path for path in found if path), None)


# Not for the whole session: while Playwright runs, this thread has an event loop, which Prefect's flows would take
# for their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = chromium(playwright)
        if path is None:
            pytest.skip(MISSING)
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


@pytest.fixture(scope="package")
def pages(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> HTML file. Asks for the browser so that nothing is made where there is none."""
    return make_pages(tmp_path_factory.mktemp("store"))


@pytest.fixture
def opened(browser: Browser, pages: dict[str, Path]) -> Iterator[Callable[..., Opened]]:
    """`opened(name or file, width=..., scheme=...)`: a page in a fresh, offline browser profile."""
    contexts = []

    def make(page: str | Path, width: int = 1200, scheme: str = "light", **options: object) -> Opened:
        shown = open_page(browser, pages[page] if isinstance(page, str) else page, width, scheme, **options)
        contexts.append(shown.page.context)
        return shown

    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder for pictures of the pages; CI keeps it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS
