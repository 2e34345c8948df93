"""The headline of an evaluation as plain text, for terminals and logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BAR = 30
"""Characters of a bar, without the mark in its middle."""


def headline(report: Mapping[str, Any]) -> str:
    """Win rates with their intervals as aligned lines, a block for every model that was compared with the reference.

    Args:
        report: the content of `report.json`.
    """
    rates = report["win_rate"]
    width = max(len(scorer) for row in rates.values() for scorer in row)
    lines = [f"Win rate over {report['reference']}, {report['prompts']['used']} prompts, 95% intervals"]
    for name, row in rates.items():
        lines.append(name)
        lines += [
            f"  {scorer:<{width}}  {point:.3f}  [{low:.3f}, {high:.3f}]  {_bar(point)}"
            for scorer, (point, low, high) in row.items()
        ]
    return "\n".join(lines)


def _bar(rate: float) -> str:
    """A bar of text with a mark at one half."""
    full = round(rate * BAR)
    cells = "#" * full + "." * (BAR - full)
    return f"{cells[: BAR // 2]}|{cells[BAR // 2 :]}"
