"""The page: complete, self-contained, free of other people's HTML, and whole where parts of a sweep are missing."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from pipeline_lib.sweeps.report import render
from pipeline_lib.sweeps.trained import POINTS, thinned
from tests.pipeline_lib.pages import Page
from tests.pipeline_lib.sweeps.made import MEASURES, SEEDS, SETTINGS, sweep_report

HOSTILE = '<script>alert("1")</script> & a "cat"'


def page(report: dict[str, Any]) -> tuple[str, Page]:
    html = render(json.loads(json.dumps(report)))  # as it is read from the file
    parsed = Page(html)
    parsed.check()
    return html, parsed


def row(parsed: Page, start: str) -> str:
    """The text from `start` on."""
    return parsed.text[parsed.text.index(start) :][:400]


def test_the_page_is_self_contained_and_deterministic() -> None:
    html, parsed = page(sweep_report())
    assert "http://" not in html and "https://" not in html and "@import" not in html and "<use" not in html
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in parsed.all("meta"))
    assert html == page(sweep_report())[0]


def test_a_claim_shows_source_findings_effects_and_rules() -> None:
    _, parsed = page(sweep_report())
    for words in (
        "Adaptive-DPO (arXiv 2503.16921), Table 1",
        "the size of the loss is not that of SD1.5",
        "Findings reproduced: 1 of 3; 1 not reproduced, 1 undecided",
        "clean − flip30 Win rate, True utility +11.0 points +7.0 to +15.0",
        "reproduced if above 70.0%, not if below 70.0%",
    ):
        assert words in parsed.text
    assert "Result" not in parsed.words, "the claim is the headline"


@pytest.mark.parametrize(
    ("verdicts", "tone"),
    [
        (["reproduced", "reproduced", "reproduced"], "better"),
        (["reproduced", "undecided", "reproduced"], "even"),
        (["undecided", "undecided", "not reproduced"], "worse"),
    ],
)
def test_the_headline_takes_its_tone_from_all_findings(verdicts: list[str], tone: str) -> None:
    report = sweep_report()
    for finding, verdict in zip(report["findings"], verdicts, strict=True):
        finding["verdict"] = verdict
    html, _ = page(report)
    assert f'class="headline {tone}"' in html


def test_a_single_finding_gives_the_headline_its_verdict() -> None:
    report = sweep_report()
    report["findings"] = report["findings"][1:2]
    assert "0/1 ? Undecided Flipped labels lower the win rate" in page(report)[1].text


def test_every_measure_has_a_table_with_differences_and_corrected_p_values() -> None:
    _, parsed = page(sweep_report())
    assert len([name for name in parsed.all("article") if name.get("class") == "measure"]) == len(MEASURES)
    assert "flip30 62.2% 59.2% to 65.2% 0: 60.6% , 1: 62.7% , 2: 63.4% −11.0 −15.0 to −7.0 0.001 0.003" in parsed.text
    assert "Difference to clean, percentage points" in parsed.text
    assert "Difference to clean, standard deviations of the base's scores" in parsed.text


def test_the_findings_measure_comes_first() -> None:
    report = sweep_report()
    assert page(report)[1].text.index("Win rate, True utility") < page(report)[1].text.index("Win rate, CLIP")
    for finding in report["findings"]:
        for contrast in finding["contrasts"]:
            contrast["measure"] = "win/clip"
    html, _ = page(report)
    assert re.search(r'id="m-0">Win rate, CLIP<', html) and re.search(r'id="m-1">Win rate, True utility<', html)


def test_texts_are_escaped() -> None:
    report = sweep_report(dict.fromkeys([HOSTILE, "other"], 0.0), reference=HOSTILE)
    report["title"] = report["preset"] = HOSTILE
    report["claim"] = dict.fromkeys(("title", "says", "miniature", "remarks"), HOSTILE) | {"sources": [HOSTILE]}
    report["measures"]["win/true"]["words"] = HOSTILE
    report["statistics"] = {HOSTILE: HOSTILE}
    report["prompts"] |= {"name": HOSTILE, "leaked": [HOSTILE]}
    report["scorers"] = {HOSTILE: {HOSTILE: HOSTILE}}
    report["lineage"] = [{"uri": HOSTILE, "digest": HOSTILE}]
    for finding in report["findings"]:
        finding |= {"name": HOSTILE, "says": HOSTILE, "rule": HOSTILE}
        for contrast in finding["contrasts"]:
            contrast["of"] = {HOSTILE: 1}
    html, parsed = page(report)
    assert HOSTILE not in html and "<script>alert" not in html
    assert parsed.text.count("<script>alert(") > 20


def test_without_a_claim_the_highest_setting_is_the_headline() -> None:
    _, parsed = page(sweep_report(claim=False))
    words = row(parsed, "clean is the highest")
    assert "of clean: 72.3% (95% interval 69.3% to 75.3%)." in words
    assert "Different from clean after Holm's correction: flip20 (lower), flip30 (lower)." in words
    calm = sweep_report({"clean": 0.0, "flip10": -0.02}, claim=False)
    assert "No setting differs clearly from clean (Holm, 5%)." in page(calm)[1].text


def test_one_setting_alone() -> None:
    html, parsed = page(sweep_report({"only": 0.0}, claim=False, reference=None))
    assert "is the highest" not in parsed.text and "What differs" not in parsed.text
    assert "The same for only" in parsed.text and "Difference to" not in parsed.text
    assert 'class="behind"' not in html and 'class="reference-line"' not in html


def test_without_a_reference_nothing_is_compared() -> None:
    html, parsed = page(sweep_report(reference=None, claim=False))
    assert "Difference to" not in parsed.text and "Holm's correction" not in parsed.text
    assert 'class="reference-line"' not in html and "compared with" not in parsed.text


def test_one_seed_and_unknown_intervals() -> None:
    report = sweep_report(seeds=(7,), claim=False)
    for setting in report["settings"]:
        for estimate in setting["estimates"].values():
            estimate["interval"][1:] = [None, None]
    html, parsed = page(report)
    assert 'class="whisker"' not in html and 'class="run"' not in html
    assert "None" not in parsed.text and "nan" not in parsed.text
    assert "4, training seeds 7" in parsed.text


def test_missing_measures_curves_and_findings_leave_the_page_whole() -> None:
    report = sweep_report()
    report["findings"] = []
    report["curves"] = {"clean": {"loss": [[1, 0.7], [2, None], [3, float("nan")]]}, "flip10": {}}
    _, parsed = page(report)
    assert "flip30 not measured none not compared" in parsed.text, "it has no train/u_auroc"
    assert parsed.text.count("while training") == 1 and "Implicit accuracy" not in parsed.text
    report["curves"] = {}
    assert "while training" not in page(report)[1].text
    report["measures"] = {}
    assert "The settings by measure" not in page(report)[1].text


def test_accuracies_are_compared_to_the_reference_and_losses_within_a_method() -> None:
    report = sweep_report()
    report["settings"][3]["method"] = "adaptive"
    html, _ = page(report)
    assert html.count('class="behind"') == 3 + 2
    report["settings"][0]["method"] = "adaptive"
    assert page(report)[0].count('class="behind"') == 3 + 1


def test_parameters_that_differ_come_first_and_the_seed_is_none_of_them() -> None:
    report = sweep_report()
    report["settings"][1]["parameters"]["recipe"] = [{"flip": 0.1, "seed": "$seed"}, "mix"]
    report["settings"][1]["parameters"]["train"]["beta"] = {"times": 2}
    report["settings"][2]["parameters"]["limit"] = 100
    _, parsed = page(report)
    table, shared = parsed.text.split("What differs between the settings")[1].split("The same for all settings")
    assert table.split()[:7] == ["Setting", "Recipe", "Limit", "Flip", "rate", "clean", "clean"]
    assert "flip10 flip 0.1, seed the training seed; mix not used 0.02" in table and "flip20 flip20 100 0.05" in table
    assert "Objective diffusion-dpo" in shared and "Seed" not in shared.split("Models")[0]


def test_models_are_listed_by_seed() -> None:
    _, parsed = page(sweep_report())
    assert f"All {len(SETTINGS) * len(SEEDS)} models" in parsed.text
    assert "All 2 datasets" in parsed.text and "sweep/0123 aaaaaaaaaaaaaaaa" in parsed.text
    assert "0: model/00abcdef; 1: model/01abcdef; 2: model/02abcdef" in parsed.text


def test_the_page_reads_and_does_not_change_the_report() -> None:
    report = sweep_report()
    before = copy.deepcopy(report)
    render(report)
    assert report == before


def test_curves_are_thinned_to_means() -> None:
    points = [(step, float(step)) for step in range(1, 1001)]
    thin = thinned(points)
    assert len(thin) <= POINTS and thin[0] == (7, 4.0) and thin[-1][0] == 1000
    assert thinned(points[:POINTS]) == points[:POINTS] and thinned([]) == []
