"""Measures, values and contrasts of a sweep as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline_lib.reports import label, number, percent, signed

KINDS = {
    "win": "Win rate",
    "gain": "Gain",
    "diversity": "Diversity",
    "implicit": "Implicit accuracy",
    "train": "Training",
    "labels": "Labels",
}
"""The first part of a measure's name, in words."""
GRADED = ("win", "gain", "diversity", "implicit")
"""Kinds of measures that are better the higher, against their null; of the others neither end is."""
JUDGED = ("win", "gain")
"""Kinds whose second part is a judge."""
SIGNED = ("gain", "diversity")
"""Kinds that are differences to the base already."""


def kind(measure: str) -> str:
    """`win/clip` -> `win`."""
    return measure.partition("/")[0]


def subject(measure: str) -> str:
    """`win/clip` -> `CLIP`, `labels/agreement/clip` -> `agreement CLIP`; nothing for a kind without parts."""
    return " ".join(label(part).replace("_", " ") for part in measure.split("/")[1:])


def measure_label(measure: str) -> str:
    """`win/clip` -> `Win rate, CLIP`."""
    head = KINDS.get(kind(measure), kind(measure))
    return f"{head}, {subject(measure)}" if "/" in measure else head


def level(measure: str, value: float, share: bool) -> str:
    """A setting's value: `58.1%`, `+0.210` or `0.693`."""
    if share:
        return f"{'−' if value < 0 else ''}{percent(abs(value))}"
    return change(value, share) if kind(measure) in SIGNED else number(value)


def change(value: float, share: bool) -> str:
    """A difference between settings without its unit: percentage points for shares; nothing has no sign."""
    if share:
        digits = f"{abs(100 * value):.1f}"
        return digits if value == 0 else f"{'+' if value > 0 else '−'}{digits}"
    return number(value) if value == 0 else signed(value)


def unit(measure: str, share: bool) -> str:
    """What differences are counted in."""
    if share:
        return "percentage points"
    return "standard deviations of the base's scores" if kind(measure) == "gain" else ""


def terms(of: Mapping[str, float]) -> list[tuple[str, str]]:
    """Signs with weights, and settings: `{clean: 1, flip30: -0.5}` -> `("", clean)`, `("− 0.5 ×", flip30)`."""
    found: list[tuple[str, str]] = []
    for name, weight in sorted(of.items(), key=lambda item: item[1] < 0):
        size = "" if abs(weight) == 1 else f"{abs(weight):.3g} ×"
        sign = "−" if weight < 0 else "+" if found else ""
        found.append((f"{sign} {size}".strip(), name))
    return found


def combination(of: Mapping[str, float]) -> str:
    """`{clean: 1, flip30: -1}` -> `clean − flip30`."""
    return " ".join(f"{sign} {name}".strip() for sign, name in terms(of))


def contrasted(
    contrast: Mapping[str, Any], measures: Mapping[str, Mapping[str, Any]], value: float, with_unit: bool = True
) -> str:
    """A value of a contrast: a difference, or a level where the weights add up to more than nothing."""
    measure = contrast["measure"]
    share = bool(measures.get(measure, {}).get("share"))
    if abs(sum(contrast["of"].values())) > 1e-9:
        return level(measure, value, share)
    return f"{change(value, share)} points" if share and with_unit else change(value, share)
