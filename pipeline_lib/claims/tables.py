"""The tables of CLAIMS.md: settings with their intervals, and effects as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline_lib.claims.results import Result
from pipeline_lib.reports import p_value
from pipeline_lib.sweeps.claim import Claim
from pipeline_lib.sweeps.estimates import settings_table
from pipeline_lib.sweeps.measures import measure_of
from pipeline_lib.sweeps.verdict import Verdict
from pipeline_lib.sweeps.wording import combination, contrasted, level, measure_label


def settings_rows(claim: Claim, result: Result) -> str:
    """A row per setting: every shown measure, and differences from the reference by the first."""
    known = set(result.outcomes["measure"])
    shown = [measure for measure in claim.shown if measure in known]
    table = settings_table(result.outcomes, shown, claim.reference)
    main = shown[0]
    against = f" {measure_label(main)} against {claim.reference} | Holm's p |" if claim.reference else ""
    rows = [f"| Setting | {' | '.join(map(measure_label, shown))} |{against}"]
    rows.append("|---|" + "---:|" * (len(shown) + 2 * bool(claim.reference)))
    for setting in claim.settings:
        row = table[setting.name]
        cells = [_interval(measure, row["estimates"].get(measure)) for measure in shown]
        if claim.reference:
            cells += _against(main, (row["against"] or {}).get(main), {setting.name: 1.0, claim.reference: -1.0})
        rows.append(f"| {cell(setting.name)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _interval(measure: str, estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return ""
    point, low, high = (level(measure, value, measure_of(measure).share) for value in estimate["interval"])
    return f"{point} [{low}, {high}]"


def _against(measure: str, against: Mapping[str, Any] | None, of: Mapping[str, float]) -> list[str]:
    if against is None:
        return ["", ""]
    return [_written(measure, of, against["difference"]), p_value(against["p_holm"])]


def _written(measure: str, of: Mapping[str, float], interval: Sequence[float]) -> str:
    """An effect with its interval."""
    about = {measure: {"share": measure_of(measure).share}}
    contrast = {"measure": measure, "of": of}
    point = contrasted(contrast, about, interval[0])
    low, high = (contrasted(contrast, about, value, False) for value in interval[1:])
    return f"{point} [{low}, {high}]"


def effects(verdict: Verdict) -> str:
    """A finding's effects with their intervals, for one cell of a table."""
    return "<br>".join(
        f"{measure_label(one.contrast.measure)}, {cell(combination(one.contrast.of))}: "
        f"{_written(one.contrast.measure, one.contrast.of, one.effect.interval)}"
        for one in verdict.contrasts
    )


def cell(text: str) -> str:
    """Text in a table: a bar would end the cell."""
    return text.replace("|", "\\|")
