"""Numbers and names as the pages write them."""

from __future__ import annotations

import math

LABELS = {
    "true": "True utility",
    "average": "Scorer average",
    "quality": "Quality",
    "human": "Human",
}
"""Of judges that are no scorers; those declare theirs."""


def label(name: str) -> str:
    """An annotator's name as people write it; unknown names stay as they are."""
    from pipeline_lib.scoring.scorers import SCORERS

    return SCORERS.get(name).label if name in SCORERS else LABELS.get(name, name)


def percent(share: float, digits: int = 1) -> str:
    """`0.713` -> `71.3%`."""
    return f"{100 * share:.{digits}f}%"


def count(value: int) -> str:
    """`12345` -> `12,345`."""
    return f"{value:,}"


def number(value: float) -> str:
    """Three decimals, two from 10 on."""
    # A true minus sign, which screen readers speak; a hyphen they skip.
    return f"{'−' if value < 0 else ''}{_magnitude(value)}"


def signed(value: float) -> str:
    """As `number`, with a plus sign where there is no minus."""
    return f"{'+' if value >= 0 else '−'}{_magnitude(value)}"


def short(value: float) -> str:
    """Three significant digits, for axes."""
    return f"{value:.3g}".replace("-", "−")


def p_value(value: float) -> str:
    """Three decimals; below a thousandth it says so."""
    return "< 0.001" if value < 0.001 else f"{math.floor(value * 1000 + 0.5) / 1000:.3f}"


def _magnitude(value: float) -> str:
    return f"{abs(value):.3f}" if abs(value) < 10 else f"{abs(value):.2f}"
