"""What holds for every page the pipeline makes, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.opened import Opened

PAGES = {"ingest": 20, "agreement": 4, "labels": 4, "evaluation": 20, "comparison": 6, "claim": 0, "sweep": 0}
"""Name -> at least this many images."""
PICTURED = ("evaluation", "claim")
"""Pages that are kept as pictures for a phone and in the dark as well."""
ITEMS = ".example, .measure"
"""What a script may hide."""
COLOURS = ("color-contrast", "link-in-text-block")
PHONE, DESK = 390, 1200
BRIGHTNESS = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + b / 3, 0)"
LOUD = """<!doctype html><html><head><title>x</title></head><body style="width: 2000px">
<img src="data:image/png;base64,AAAA"><img src="https://example.com/tracker.png">
<main><p style="color: #bbb; background: #ccc">pale</p></main><script>nothing()</script></body></html>"""


@pytest.mark.parametrize("name", PAGES)
def test_page(name: str, opened: Callable[..., Opened], screenshots: Path) -> None:
    shown = opened(name, PHONE)
    shown.check_width()
    if name in PICTURED:
        shown.page.screenshot(path=screenshots / f"{name}-phone.png", full_page=True)
    shown.page.set_viewport_size({"width": DESK, "height": 900})
    shown.check_width()
    shown.check_images(PAGES[name])
    for scheme in ("light", "dark"):
        shown.page.emulate_media(color_scheme=scheme)
        assert (shown.page.evaluate(BRIGHTNESS) > 128) == (scheme == "light")
        shown.check_accessible(*(COLOURS if scheme == "dark" else ()))  # nothing else differs
        if name in PICTURED or scheme == "light":
            shown.page.screenshot(path=screenshots / f"{name}-{scheme}.png", full_page=True)
    shown.check_quiet()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_readable_without_script(name: str, opened: Callable[..., Opened]) -> None:
    shown = opened(name, java_script_enabled=False)
    assert shown.page.locator("main h2").count() > 0
    assert shown.page.locator(ITEMS).count() == shown.page.locator(ITEMS).locator("visible=true").count() > 0
    assert shown.page.locator("button:visible, input:visible, select:visible").count() == 0


@pytest.mark.parametrize("name", PAGES)
def test_keyboard_reaches_everything_that_can_be_used(name: str, opened: Callable[..., Opened]) -> None:
    shown = opened(name)
    usable = shown.page.locator("a[href]:visible, button:visible, input:visible, select:visible, summary:visible")
    wanted = usable.evaluate_all("(nodes) => nodes.map((node) => [...document.querySelectorAll('*')].indexOf(node))")
    stops = shown.tab_stops()
    assert set(wanted) <= set(stops) and stops == sorted(stops) and stops


def test_checks_see_what_they_look_for(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    (tmp_path / "loud.html").write_text(LOUD)
    shown = opened(tmp_path / "loud.html")
    for check in (shown.check_quiet, shown.check_width, shown.check_accessible, lambda: shown.check_images(1)):
        with pytest.raises(AssertionError):
            check()
    with pytest.raises(AssertionError, match="color-contrast"):
        shown.check_accessible(*COLOURS)
    assert any("example.com" in url for url in shown.requests)
    assert any("nothing is not defined" in words for words in shown.complaints)
