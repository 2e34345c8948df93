"""A page in Chromium, with everything it asked for and complained about; and what must hold for every page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

AXE = Axe()
LOOKED_AT = {"exclude": [[".example:nth-child(n+7)"]]}
"""What axe-core goes through: of the examples, which are alike, the first six; it takes seconds for all."""
OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (node) => node && (getComputedStyle(node).overflowX !== "visible" || scrolls(node.parentElement));
  const out = [...document.body.querySelectorAll("*")]
    .filter((node) => node.getBoundingClientRect().right > width + 0.5 && !scrolls(node))
    .slice(0, 5).map((node) => node.outerHTML.slice(0, 120));
  return [document.documentElement.scrollWidth - width, out];
}"""
"""By how many pixels the page is too wide, and what sticks out of it."""
FOCUSED = """() => {
  const node = document.activeElement;
  const words = node === document.body ? null : node.outerHTML.slice(0, 80);
  return [[...document.querySelectorAll("*")].indexOf(node), getComputedStyle(node).outlineStyle, words];
}"""


@dataclass
class Opened:
    """A loaded page. `requests` are the URLs it asked for, `complaints` errors, warnings and exceptions."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def check_quiet(self) -> None:
        """Nothing on the console, and no request but for the page itself."""
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith("data:")] == [self.page.url]

    def check_images(self, at_least: int) -> None:
        """Every image has pixels, also those far down the page."""
        self.page.evaluate("Promise.allSettled([...document.images].map((image) => image.decode()))")
        widths = self.page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        assert len(widths) >= at_least and all(widths)

    def check_width(self) -> None:
        """The page does not scroll sideways, and nothing sticks out of it; what scrolls inside its own box may."""
        found = self.page.evaluate(OVERFLOW)
        assert found == [0, []]

    def check_accessible(self, *rules: str) -> None:
        """axe-core has nothing to say by its rules, best practices included, or only by the `rules` named."""
        options = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else None
        results = AXE.run(self.page, context=LOOKED_AT, options=options)
        assert results.violations_count == 0, results.generate_report()
        assert len(results.response["passes"]) >= (1 if rules else 15)

    def tab_stops(self) -> list[int]:
        """Positions in the document of what the Tab key reaches, in order; each must show that it has the focus."""
        reached: list[int] = []
        self.page.evaluate("document.activeElement.blur()")
        for _ in range(200):
            self.page.keyboard.press("Tab")
            position, outline, words = self.page.evaluate(FOCUSED)
            if words is None or position in reached:
                return reached
            assert outline != "none", f"{words}: the focus cannot be seen"
            reached.append(position)
        raise AssertionError("the Tab key reaches no end")


def open_page(browser: Browser, file: Path, width: int, scheme: str, **options: Any) -> Opened:
    """Load a file in a new profile without network."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce", **options
    )
    shown = Opened(context.new_page())
    shown.page.on("request", lambda request: shown.requests.append(request.url))
    shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
    shown.page.on(
        "console",
        lambda message: shown.complaints.append(message.text) if message.type in ("error", "warning") else None,
    )
    shown.page.goto(file.as_uri())
    return shown
