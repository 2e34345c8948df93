"""A figure is one well-formed SVG file that needs nothing else."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pipeline_lib.core.errors import UnknownNameError
from pipeline_lib.sweeps.figure import figure
from tests.pipeline_lib.sweeps.made import SEEDS, SETTINGS, sweep_report

HOSTILE = '<script>alert("1")</script> & a "cat"'
SVG = "{http://www.w3.org/2000/svg}"


def test_figure_is_a_whole_svg_with_title_and_description() -> None:
    drawn = figure(sweep_report(), "win/true")
    root = ElementTree.fromstring(drawn)
    title, description = (root.findtext(f"{SVG}{name}") or "" for name in ("title", "desc"))
    assert title == "Label flips degrade Diffusion-DPO: Win rate, True utility"
    assert "flip30: 62.2%, interval 59.2% to 65.2%, single runs 60.6%, 62.7%, 63.4%" in description
    assert len(root.findall(f".//{SVG}circle")) == len(SETTINGS) * (1 + len(SEEDS))
    assert "prefers-color-scheme: dark" in drawn and "<script" not in drawn
    assert drawn.count("http") == 1, "nothing but the namespace"
    assert drawn == figure(sweep_report(), "win/true") != figure(sweep_report(), "gain/true")


def test_figure_needs_only_its_parts_of_the_report() -> None:
    report = sweep_report()
    parts = {name: report[name] for name in ("title", "reference", "measures")}
    settings = [{"name": setting["name"], "estimates": setting["estimates"]} for setting in report["settings"]]
    assert figure({**parts, "settings": settings}, "win/true") == figure(report, "win/true")


def test_figure_escapes_and_names_what_it_does_not_know() -> None:
    report = sweep_report({HOSTILE: 0.0}, reference=None)
    drawn = figure(report, "win/true", HOSTILE)
    assert "<script>" not in drawn
    assert ElementTree.fromstring(drawn).findtext(f"{SVG}title") == f"{HOSTILE}: Win rate, True utility"
    with pytest.raises(UnknownNameError, match="win/true"):
        figure(report, "win/tru")
    with pytest.raises(UnknownNameError):
        figure(report, "train/u_auroc")  # no setting has it
