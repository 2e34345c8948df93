"""Claim files: what is read from them, and what is refused before anything runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib.core.errors import ConfigError, UnknownNameError
from pipeline_lib.labels.recipes import steps_of
from pipeline_lib.presets import METHODS
from pipeline_lib.sweeps import claim as claims
from pipeline_lib.sweeps.claim import Contrast, load, names
from pipeline_lib.sweeps.claim_files import read
from pipeline_lib.sweeps.plan import cells_of
from tests.pipeline_lib.claims.plain import RAW, changed, claim

DEGRADES = RAW["findings"]["degrades"]


def sweep(**changes: Any) -> dict[str, Any]:
    return {**RAW["sweep"], **changes}


def finding(**changes: Any) -> dict[str, Any]:
    """Findings of one contrast, changed."""
    (one,) = DEGRADES["contrasts"]
    kept = {key: value for key, value in {**one, **changes}.items() if value is not None}
    return {"degrades": {"says": "x", "contrasts": [kept]}}


def test_a_claim_is_read_whole() -> None:
    found = claim()
    assert (found.name, found.title, found.reference) == ("flips", "Flips hurt", "s0")
    assert found.says == "The win rate falls with wrong labels."
    assert [(one.name, dict(one.parameters)) for one in found.settings] == [
        ("s0", {"method": "dpo", "recipe": "human"}),
        ("s1", {"method": "dpo", "recipe": "flip10"}),
        ("s2", {"method": "dpo", "recipe": "flip30"}),
    ]
    assert (found.seeds, found.image_seeds, found.remarks) == ((0, 1, 2), None, "")
    assert [one.name for one in found.findings] == ["degrades", "not-worse"]
    assert found.findings[0].contrasts == (Contrast("gain/true", {"s0": 1.0, "s2": -1.0}, 0.0, 0.05),)
    assert found.findings[1].contrasts[0].below == -0.03, "below is above unless it is given"
    assert found.figures == ("gain/true", "win/true"), "the measures of the findings unless given"
    assert found.measures == ["gain/true", "win/true", "train/implicit_accuracy"]


def test_a_grid_gives_settings_that_findings_can_name() -> None:
    of = {"beta=2000": 1, "beta=500": -1}
    found = claim(sweep={"grid": {"beta": [500, 2000]}, "image_seeds": [0, 1]}, findings=finding(of=of), figures=[])
    assert [one.name for one in found.settings] == ["beta=500", "beta=2000"]
    assert (found.seeds, found.image_seeds, found.figures) == ((0, 1, 2), (0, 1), ())


def test_a_claim_is_for_every_preset_unless_it_names_some() -> None:
    assert claim().runs_on("sdxl")
    found = claim(presets=["shapes", "sd15"])
    assert (found.presets, found.runs_on("sd15"), found.runs_on("sdxl")) == (("shapes", "sd15"), True, False)
    assert found.rules == claim().rules
    with pytest.raises(ConfigError, match=r"flips cannot be tested on sdxl[\s\S]*shapes, sd15"):
        found.check("sdxl")


def test_rules_are_those_of_settings_seeds_and_findings_alone() -> None:
    assert claim().rules == claim(title="Else", remarks="Seen.", miniature="Else.", figures=["win/average"]).rules
    others = [
        claim(findings=finding(above=0.01)),
        claim(sweep=sweep(seeds=[0, 1, 3])),
        claim(sweep=sweep(common={"method": "dpo", "steps": 100})),
    ]
    assert len({one.rules for one in [claim(), *others]}) == 4


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"titel": "x"}, r"Unknown key of claim flips, 'titel'. Did you mean 'title'"),
        ({"miniature": None}, "Claim flips lacks miniature"),
        ({"title": " "}, "Claim flips, title is ' '"),
        ({"sources": []}, "Claim flips, sources"),
        ({"says": 3}, "Claim flips, says is 3"),
        ({"sweep": sweep(seed=[0, 1, 2])}, "Unknown key of claim flips, sweep, 'seed'. Did you mean 'seeds'"),
        ({"sweep": sweep(seeds=[0, 1])}, r"Claim flips has the seeds \[0, 1\][\s\S]*Give 3 or more"),
        ({"sweep": sweep(seeds=[0, 1, 1])}, "Give each number once"),
        ({"sweep": sweep(seeds=[0, 1, True])}, "whole numbers"),
        ({"sweep": sweep(seeds=3)}, "Claim flips, seeds is 3"),
        ({"sweep": sweep(image_seeds=[])}, "image_seeds"),
        ({"sweep": sweep(reference="s9")}, "Unknown setting in claim flips, reference, 's9'"),
        ({"sweep": sweep(measures=["win/qualty"])}, "Unknown judge in the measure 'win/qualty'"),
        ({"sweep": sweep(settings={"s0": {"recepie": "human"}})}, "Unknown parameter of a setting 'recepie'"),
        ({"sweep": {"common": {"method": "dpo"}}}, "has no settings"),
        ({"sweep": sweep(settings=["s0"])}, "Claim flips, settings"),
        ({"figures": ["loss"]}, "Unknown measure 'loss'"),
        ({"presets": ["sd-15"]}, r"Unknown preset 'sd-15'[\s\S]*sd15"),
        ({"presets": []}, "Claim flips, presets"),
        ({"findings": {}}, "Claim flips has no findings"),
        ({"findings": {"a": {"says": "x"}}}, "finding a lacks contrasts"),
        ({"findings": {"a": {"says": "x", "contrasts": []}}}, "finding a, contrasts"),
        ({"findings": finding(abve=0)}, "Did you mean 'above'"),
        ({"findings": finding(above=None)}, "contrast 1 lacks above"),
        ({"findings": finding(above="0")}, "finite number"),
        ({"findings": finding(above=float("nan"))}, "finite number"),
        ({"findings": finding(below=-0.1)}, "below is -0.1, which is less than above, 0"),
        ({"findings": finding(measure="win/best")}, "'best'"),
        (
            {"findings": finding(of={"s0": 1, "s9": -1})},
            "Unknown setting in claim flips, finding degrades, contrast 1",
        ),
        ({"findings": finding(of={"s0": 0, "s1": 0})}, "all weights are 0"),
        ({"findings": finding(of={"s0": "1"})}, "weight of s0 is '1'"),
        ({"findings": finding(of=["s0"])}, "mapping"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        claim(**changes)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "is not YAML"),
        ("", "is None"),
        ("- a", "mapping"),
        (yaml.safe_dump(changed()) + "title: Again\n", "title twice"),
        ("findings: {degrades: {says: x, contrasts: []}, degrades: {says: y}}", "degrades twice"),
        ("sweep: [{a: 1, a: 2}]", "a twice"),
    ],
)
def test_text_that_loses_something_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read("flips", text)


def test_a_claim_is_found_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "FOLDER", tmp_path)
    assert names() == []
    (tmp_path / "flips.yaml").write_text(yaml.safe_dump(changed()), encoding="utf-8")
    assert names() == ["flips"]
    assert load("flips") == claim()
    with pytest.raises(UnknownNameError, match="Did you mean 'flips'"):
        load("flip")


def test_every_claim_of_the_project_can_run() -> None:
    """Names, measures and rules are checked by reading; recipes and methods are those that exist."""
    for name in names():
        found = load(name)
        for cell in cells_of(found.settings, found.seeds):
            given = cell.parameters("shapes")
            assert cell.setting.method in METHODS
            if given.get("recipe") is not None:
                assert steps_of(given["recipe"]), f"{name}: {cell.name}"
