"""The page of a sweep: its findings, settings and curves, all from `report.json`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline_lib.evaluation.significance import LEVEL
from pipeline_lib.reports import render as render_page
from pipeline_lib.reports.intervals import Verdict
from pipeline_lib.sweeps.background import background_content
from pipeline_lib.sweeps.measured import groups, measured, ordered
from pipeline_lib.sweeps.trained import training
from pipeline_lib.sweeps.wording import contrasted, measure_label, terms

VERDICTS: dict[str, tuple[Verdict, str, str]] = {
    "reproduced": ("better", "✓", "Reproduced"),
    "not reproduced": ("worse", "✗", "Not reproduced"),
    "undecided": ("even", "?", "Undecided"),
}
"""Verdict -> tone, symbol and words."""


def render(report: Mapping[str, Any]) -> str:
    """The HTML page.

    Args:
        report: the content of `report.json`.
    """
    measures = [measured(report, name, number) for number, name in enumerate(ordered(report))]
    return render_page(
        __package__,
        "sweep.html.j2",
        report=report,
        claim=report["claim"],
        outcome=_outcome(report["findings"]),
        findings=[_finding(finding, report["measures"]) for finding in report["findings"]],
        measures=measures,
        groups=groups(measures),
        best=_best(report, measures[0]) if measures else None,
        training=training(report),
        **background_content(report),
    )


def _outcome(findings: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The findings of a claim in one line."""
    if not findings:
        return None
    counts = Counter(finding["verdict"] for finding in findings)
    tone: Verdict = "even"
    if counts["not reproduced"]:
        tone = "worse"
    elif counts["reproduced"] == len(findings):
        tone = "better"
    others = [f"{counts[name]} {name}" for name in ("not reproduced", "undecided") if counts[name]]
    return {"tone": tone, "reproduced": counts["reproduced"], "all": len(findings), "others": ", ".join(others)}


def _finding(finding: Mapping[str, Any], measures: Mapping[str, Any]) -> dict[str, Any]:
    tone, symbol, words = VERDICTS[finding["verdict"]]
    return {
        **finding,
        "tone": tone,
        "symbol": symbol,
        "words": words,
        "rows": [_contrast(contrast, measures) for contrast in finding["contrasts"]],
    }


def _contrast(contrast: Mapping[str, Any], measures: Mapping[str, Any]) -> dict[str, Any]:
    tone, symbol, words = VERDICTS[contrast["verdict"]]
    point, low, high = contrast["interval"]
    return {
        "of": terms(contrast["of"]),
        "measure": measure_label(contrast["measure"]),
        "point": contrasted(contrast, measures, point),
        "low": contrasted(contrast, measures, low, with_unit=False),
        "high": contrasted(contrast, measures, high, with_unit=False),
        "p": contrast["p"],
        "above": contrasted(contrast, measures, contrast["above"], with_unit=False),
        "below": contrasted(contrast, measures, contrast["below"]),
        "tone": tone,
        "symbol": symbol,
        "words": words,
    }


def _best(report: Mapping[str, Any], main: Mapping[str, Any]) -> dict[str, Any] | None:
    """The setting that is highest by the main measure, and those that differ from the reference by it."""
    rows = [row for row in main["rows"] if row["value"] is not None and math.isfinite(row["value"])]
    if not rows:
        return None
    compared = [row for row in rows if row["p_holm"] is not None]
    apart = [row for row in compared if row["p_holm"] < LEVEL]
    return {
        **max(rows, key=lambda row: row["value"]),
        "several": len(rows) > 1,
        "compared": len(compared),
        "apart": [f"{row['name']} ({'higher' if row['rise'] > 0 else 'lower'})" for row in apart],
    }
