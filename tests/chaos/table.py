"""The tables that the program prints."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from tests.chaos.checks import Check
from tests.chaos.rounds import Injection
from tests.chaos.site import KINDS


def injections(done: Sequence[Injection]) -> str:
    """One line per injection."""
    lines = [" no.    time  killed               stage            the run ended  back after"]
    for one in done:
        what = f"{one.kind} + all below" if one.with_children else one.kind
        lines.append(
            f"{one.number:>4} {one.at:>6.0f} s  {what:<19}  {one.stage:<15}  "
            f"{one.state:<13}  {_seconds(one.recovered)}"
        )
    return "\n".join(lines)


def by_kind(done: Sequence[Injection]) -> str:
    """One line per kind: how often, seconds until it was back."""
    lines = ["killed     times  back after: median, longest"]
    for kind in KINDS:
        mine = [one for one in done if one.kind == kind]
        times = [one.recovered for one in mine if one.recovered is not None]
        spread = f"{_seconds(median(times))}, {_seconds(max(times))}" if times else "-"
        lines.append(f"{kind:<9} {len(mine):>6}  {spread}")
    return "\n".join(lines)


def checks(found: Sequence[Check]) -> str:
    """One line per check."""
    return "\n".join(f"{'ok ' if one.holds else 'NOT'}  {one.what:<36} {one.found}" for one in found)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
