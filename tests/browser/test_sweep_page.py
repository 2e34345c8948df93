"""What a reader does with a sweep's report, and what its charts and figures look like."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from pipeline_lib.sweeps.figure import WIDTH, figure
from tests.browser.opened import Opened
from tests.pipeline_lib.sweeps.made import MEASURES, SEEDS, SETTINGS, sweep_report


def shown(page: Page) -> list[str]:
    return page.locator(".measure:visible > h3").all_inner_texts()


def test_a_measure_is_chosen_by_click(opened: Callable[..., Opened]) -> None:
    page = opened("claim").page
    assert shown(page) == ["Win rate, True utility"]
    gain = page.get_by_role("group", name="Gain").get_by_role("button", name="True utility")
    gain.click()
    assert shown(page) == ["Gain, True utility"] and gain.get_attribute("aria-pressed") == "true"
    page.get_by_role("group", name="Others").get_by_role("button", name="Diversity").click()
    assert shown(page) == ["Diversity"] and gain.get_attribute("aria-pressed") == "false"
    assert page.locator(".choice [aria-pressed='true']").count() == 1
    assert page.locator(".choice button").count() == len(MEASURES)


def test_a_measure_is_chosen_by_keyboard(opened: Callable[..., Opened]) -> None:
    page = opened("claim").page
    page.get_by_role("group", name="Win rate").get_by_role("button", name="True utility").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator(":focus").inner_text() == "CLIP" and shown(page) == ["Win rate, CLIP"]


def test_without_script_and_on_paper_every_measure_is_there(opened: Callable[..., Opened]) -> None:
    assert len(shown(opened("claim", java_script_enabled=False).page)) == len(MEASURES)
    page = opened("claim").page
    page.emulate_media(media="print")
    assert len(shown(page)) == len(MEASURES) and page.locator("button:visible").count() == 0


def test_findings_say_verdict_effect_and_rule(opened: Callable[..., Opened]) -> None:
    page = opened("claim").page
    assert page.locator(".finding .badge").all_inner_texts() == [
        "✓ Reproduced (degrades)",
        "? Undecided (monotone)",
        "✗ Not reproduced (useless)",
    ]
    row = page.get_by_role("table", name="30% flips cost win rate").locator("tbody tr").inner_text().replace("\n", " ")
    for words in ("clean − flip30", "+11.0 points", "+7.0 to +15.0", "if above 0.0, not if below +3.0 points"):
        assert words in row


@pytest.mark.parametrize("width", [390, 1200])
def test_chart_has_a_dot_for_every_estimate_and_a_ring_for_every_run(
    width: int, opened: Callable[..., Opened]
) -> None:
    page = opened("claim", width).page
    chart = page.locator(".measure:visible svg.chart")
    rings = chart.locator(".run circle")
    assert rings.count() == len(SETTINGS) * len(SEEDS)
    assert chart.locator("circle").count() == rings.count() + len(SETTINGS)
    frame = chart.bounding_box()
    assert frame is not None
    for circle in chart.locator("circle").all():
        box = circle.bounding_box()
        assert box is not None and frame["x"] < box["x"] < box["x"] + box["width"] < frame["x"] + frame["width"]
    rows = page.locator(".measure:visible tbody tr")
    best = rows.filter(has_text="clean").first.inner_text()
    assert "72." in best and rows.count() == len(SETTINGS)


def test_names_and_values_of_a_chart_do_not_overlap(opened: Callable[..., Opened]) -> None:
    for name in ("claim", "sweep"):
        chart = opened(name, 390).page.locator(".measure:visible svg.chart")
        labels, values = (
            [element.bounding_box() for element in chart.locator(f"text.{kind}").all()] for kind in ("label", "value")
        )
        assert len(labels) == len(values) == 4
        for label, value in zip(labels, values, strict=True):
            assert label is not None and value is not None
            assert label["x"] + label["width"] < value["x"]


def test_figure_is_readable_in_light_and_dark(opened: Callable[..., Opened], tmp_path: Path) -> None:
    (tmp_path / "figure.svg").write_text(figure(sweep_report(), "win/true"), encoding="utf-8")
    (tmp_path / "page.html").write_text('<!doctype html><title>x</title><img alt="" src="figure.svg">')
    brightness = {}
    for scheme in ("light", "dark"):
        page = opened(tmp_path / "page.html", scheme=scheme).page
        image = page.locator("img")
        assert image.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == WIDTH
        pixels = np.asarray(Image.open(io.BytesIO(image.screenshot())).convert("L"), np.int16)
        paper = int(pixels[70, 300])
        brightness[scheme] = paper
        title = np.abs(pixels[15:40, 24:200] - paper)
        assert title.max() > 150, f"{scheme}: the title is hard to read"
    assert brightness["dark"] < 60 < 200 < brightness["light"]


def test_nothing_sticks_out_of_the_figure(opened: Callable[..., Opened], tmp_path: Path) -> None:
    names = dict.fromkeys(["recipe=flip20 beta=500 learning_rate=2e-05", "W" * 80], 0.0)
    (tmp_path / "figure.svg").write_text(figure(sweep_report(names, reference=None), "gain/true"), encoding="utf-8")
    page = opened(tmp_path / "figure.svg").page
    ends = page.locator("text").evaluate_all("(all) => all.map((text) => text.getBoundingClientRect().right)")
    assert len(ends) > 6 and max(ends) <= WIDTH
