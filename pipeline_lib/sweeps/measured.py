"""One measure of a sweep, ready to be shown: a row per setting and their chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pipeline_lib.evaluation.significance import LEVEL
from pipeline_lib.reports import Spread, spread_chart
from pipeline_lib.reports.intervals import Verdict
from pipeline_lib.sweeps.wording import GRADED, JUDGED, KINDS, change, kind, level, measure_label, subject, unit

MAIN = ("win/true", "win/quality", "win/average")
"""Measures that come first where no finding says so, the first of them that there is."""


def ordered(report: Mapping[str, Any]) -> list[str]:
    """The report's measures: the main one, then by kind, in the report's order."""
    names = list(report["measures"])
    judged = [contrast["measure"] for finding in report["findings"] for contrast in finding["contrasts"]]
    main = next((name for name in (*judged, *MAIN) if name in report["measures"]), None)
    kinds = [*KINDS, *dict.fromkeys(map(kind, names))]
    return sorted(names, key=lambda name: (name != main, kinds.index(kind(name)), names.index(name)))


def measured(report: Mapping[str, Any], measure: str, number: int) -> dict[str, Any]:
    """A measure's content for the template. Settings without a value for it have a row without numbers."""
    about = report["measures"][measure]
    share = bool(about["share"])
    title = f"{measure_label(measure)}, by setting, with 95% intervals"
    rows = [_row(report, setting, measure, share) for setting in report["settings"]]
    spreads = spreads_of(report, measure)
    written = partial(level, measure, share=share)
    return {
        "name": measure,
        "number": number,
        "label": measure_label(measure),
        "words": about["words"][:1].upper() + about["words"][1:],
        "graded": kind(measure) in GRADED,
        "null": written(about["null"]),
        "unit": unit(measure, share),
        "rows": rows,
        "chart": spread_chart(spreads, title, f"spread-{number}", written, null_of(report, measure))
        if spreads
        else None,
    }


def groups(measures: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Buttons that choose a measure, (words, number), by kind; kinds without judges are together."""
    found: dict[str, list[tuple[str, int]]] = {}
    for measure in measures:
        name, number = measure["name"], measure["number"]
        judged = kind(name) in JUDGED
        found.setdefault(KINDS[kind(name)] if judged else "Others", []).append(
            (subject(name) if judged else measure_label(name), number)
        )
    return sorted(found.items(), key=lambda item: item[0] == "Others")


def null_of(report: Mapping[str, Any], measure: str) -> float | None:
    """The value of no effect, where the measure has one."""
    return report["measures"][measure]["null"] if kind(measure) in GRADED else None


def spreads_of(report: Mapping[str, Any], measure: str) -> list[Spread]:
    """The chart's rows: the settings that have a value."""
    null = null_of(report, measure)
    found = []
    for setting in report["settings"]:
        estimate = setting["estimates"].get(measure)
        if estimate is None or estimate["interval"][0] is None:
            continue
        point, low, high = estimate["interval"]
        runs = [value for value in estimate["by_seed"].values() if value is not None]
        found.append(
            Spread(
                setting["name"],
                point,
                low,
                high,
                runs if len(runs) > 1 else (),
                _tone(low, high, null),
                setting["name"] == report["reference"],
            )
        )
    return found


def _tone(low: float | None, high: float | None, null: float | None) -> Verdict:
    if low is None or high is None or null is None:
        return "even"
    return "better" if low > null else "worse" if high < null else "even"


def _row(report: Mapping[str, Any], setting: Mapping[str, Any], measure: str, share: bool) -> dict[str, Any]:
    estimate = setting["estimates"].get(measure) or {"interval": [None] * 3, "by_seed": {}}
    against = (setting["against"] or {}).get(measure)
    point, low, high = estimate["interval"]
    rise = against["difference"][0] if against else None
    clear = against is not None and against["p_holm"] < LEVEL and kind(measure) in GRADED
    return {
        "name": setting["name"],
        "reference": setting["name"] == report["reference"],
        "value": point,
        "tone": _tone(low, high, null_of(report, measure)),
        "point": None if point is None else level(measure, point, share),
        "interval": None if low is None or high is None else [level(measure, end, share) for end in (low, high)],
        "by_seed": {
            seed: level(measure, value, share) for seed, value in estimate["by_seed"].items() if value is not None
        },
        "rise": rise,
        "change": [change(value, share) for value in against["difference"]] if against else None,
        "changed": ("better" if rise > 0 else "worse") if clear and rise is not None else "even",
        "p": against["p"] if against else None,
        "p_holm": against["p_holm"] if against else None,
    }
