"""What a reader does with an evaluation's report: filter, sort, copy, follow links, by mouse and by keyboard."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page

from tests.browser.opened import Opened

SHOWN = ".example:visible"


def gains(page: Page) -> list[float]:
    found = page.locator(SHOWN).evaluate_all("(nodes) => nodes.map((node) => Number(node.dataset.gain))")
    return [float(gain) for gain in found]


def prompts(page: Page) -> list[str]:
    return page.locator(f"{SHOWN} .prompt").all_inner_texts()


def test_worst_regressions_and_best_wins_by_click(opened: Callable[..., Opened]) -> None:
    page = opened("evaluation").page
    every = page.locator(".example").count()
    assert len(prompts(page)) == 24 < every and gains(page) != sorted(gains(page))
    page.get_by_role("button", name="Worst regressions first").click()
    worst = gains(page)
    assert worst == sorted(worst) and len(worst) == 12 and worst[-1] < 0
    assert page.get_by_role("button", name="Worst regressions first").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Best wins first").click()
    best = gains(page)
    assert best == sorted(best, reverse=True) and len(best) == 12 and best[-1] > 0
    page.get_by_role("button", name="Random sample").click()
    assert len(gains(page)) == 24
    assert worst[0] <= min(gains(page)) and max(gains(page)) <= best[0]


def test_prompt_filter_by_typing(opened: Callable[..., Opened]) -> None:
    page = opened("evaluation").page
    assert page.get_by_role("status").inner_text() == "24 pairs"
    before = prompts(page)
    page.get_by_label("Prompt contains").fill("  CIRCLE red")
    wanted = [prompt for prompt in before if "circle" in prompt and "red" in prompt]
    assert prompts(page) == wanted and len(wanted) < 24
    assert page.get_by_role("status").inner_text() == f"{len(wanted)} of 24 pairs"
    page.get_by_label("Prompt contains").fill("no such words")
    assert prompts(page) == [] and page.get_by_role("status").inner_text() == "0 of 24 pairs"
    page.get_by_label("Prompt contains").fill("")
    assert prompts(page) == before


def test_category_filter(opened: Callable[..., Opened]) -> None:
    page = opened("evaluation").page
    before = prompts(page)
    page.get_by_label("Category", exact=True).select_option("ring")
    assert prompts(page) == [prompt for prompt in before if " ring " in prompt] and prompts(page)
    page.get_by_label("Prompt contains").fill("circle")
    assert prompts(page) == []
    page.get_by_label("Category", exact=True).select_option("all")
    assert prompts(page) == [prompt for prompt in before if "circle" in prompt]


def test_keyboard_alone_sorts_and_filters(opened: Callable[..., Opened]) -> None:
    page = opened("evaluation").page
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator(":focus").inner_text() == "Worst regressions first"
    assert gains(page) == sorted(gains(page)) and len(gains(page)) == 12
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("triangle")
    assert all("triangle" in prompt for prompt in prompts(page)) and prompts(page)


def test_each_comparison_has_a_filter_of_its_own(opened: Callable[..., Opened]) -> None:
    page = opened("comparison").page
    first, second = (page.locator("section.comparison").nth(i) for i in range(2))
    first.get_by_label("Prompt contains").fill("日本語")
    assert first.locator(SHOWN).count() == 1 and second.locator(SHOWN).count() == 4


def test_pull_command_is_copied(opened: Callable[..., Opened]) -> None:
    page = opened("evaluation").page
    button = page.get_by_role("button", name="Copy")
    button.click()
    page.get_by_role("button", name="Copied").wait_for()
    page.get_by_label("Prompt contains").focus()
    page.keyboard.press("Control+V")
    assert page.get_by_label("Prompt contains").input_value() == 'download_artifacts("models:/aligned@candidate")'


def test_pull_command_is_selected_where_the_clipboard_is_refused(opened: Callable[..., Opened]) -> None:
    page = opened("evaluation").page
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Selected").wait_for()
    assert page.evaluate("getSelection().toString()").strip() == 'download_artifacts("models:/aligned@candidate")'


def test_lineage_leads_to_the_source_and_links_to_other_pages(opened: Callable[..., Opened]) -> None:
    page = opened("evaluation").page
    names = page.locator("table[aria-labelledby='h-lineage'] tbody th").all_inner_texts()
    stages = [name.partition("/")[0] for name in names]
    inputs = {"images", "image-scores", "implicit", "encoded", "model", "labels", "agreement", "ingest"}
    assert inputs | {"scores-clip", "scores-hpsv2"} == set(stages)
    page.get_by_text("Source files of ingest").first.click()
    assert page.locator("details[open] li").all_inner_texts()[0].startswith("train-00000-of-00004.parquet, ")
    page.get_by_text("Settings of labels").focus()
    page.keyboard.press("Enter")
    assert "voters" in page.locator("details[open] pre").last.inner_text()
    page.get_by_role("link", name="The whole label report").click()
    assert page.locator("h1").inner_text() == "Labels by a vote"
    page.go_back()
    rows = page.get_by_role("table", name="Scorers against people").locator("tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["CLIP", "HPSv2"]
    page.get_by_role("link", name="The whole scorer report").click()
    assert page.locator("h1").inner_text() == "2 scorers on train"
    page.go_back()
    page.get_by_role("link", name="ingest/").first.click()
    assert page.locator("h2").last.inner_text() == "Some pairs"
