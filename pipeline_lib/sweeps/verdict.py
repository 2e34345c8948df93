"""Verdicts: what the outcomes of a sweep say about a finding, by the rule fixed in the claim file.

A contrast holds (`reproduced`) where the whole 95% interval of its effect lies above `above`. It does not
(`not reproduced`) where the whole interval lies below `below`, and else is `undecided`.

- Superiority: `above: 0`, and `below` the smallest effect worth having.
- Non-inferiority: `above: -margin`.

So an effect that is `above` or less is called reproduced in about 2.5% of sweeps at most, and one that is `below` or
more is called not reproduced in about 2.5% at most. A finding of several contrasts is reproduced if all are: one of
which any is untrue, in 2.5% at most too. It is not reproduced if any is not: with n contrasts, all of them `below` or
more, in up to n times 2.5%.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from pipeline_lib.core.config import require
from pipeline_lib.sweeps.claim import MIN_SEEDS, Contrast, Finding
from pipeline_lib.sweeps.estimates import Estimate, estimate
from pipeline_lib.sweeps.values import Values, values_of
from pipeline_lib.sweeps.wording import combination

Word = Literal["reproduced", "not reproduced", "undecided"]
REPRODUCED: Word = "reproduced"
NOT_REPRODUCED: Word = "not reproduced"
UNDECIDED: Word = "undecided"


@dataclass(frozen=True)
class Judged:
    """A contrast with its effect."""

    contrast: Contrast
    effect: Estimate
    verdict: Word

    def as_json(self) -> dict[str, Any]:
        """For report.json. `p` is two-sided, for an effect of exactly `above`."""
        return {
            **self.contrast.as_json(),
            "interval": self.effect.interval,
            "standard_error": self.effect.standard_error,
            "df": self.effect.df,
            "p": self.effect.p,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Verdict:
    """A finding with all its effects."""

    finding: Finding
    contrasts: tuple[Judged, ...]

    @property
    def word(self) -> Word:
        """reproduced if every contrast is, not reproduced if any is not, else undecided."""
        return _together([one.verdict for one in self.contrasts])

    def as_json(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "name": self.finding.name,
            "says": self.finding.says,
            "verdict": self.word,
            "contrasts": [one.as_json() for one in self.contrasts],
            "rule": rule(self.finding),
        }


def judge(outcomes: pl.DataFrame, finding: Finding) -> Verdict:
    """The verdict on a finding.

    Args:
        outcomes: those of the whole sweep (the seeds' variance is pooled over its settings).

    Raises:
        UnknownNameError, EvaluationError: as `estimates.contrast`.
        ConfigError: a setting has fewer than 3 training seeds.
    """
    found = {measure: values_of(outcomes, measure) for measure in {one.measure for one in finding.contrasts}}
    return Verdict(finding, tuple(_judge(found[one.measure], one) for one in finding.contrasts))


def rule(finding: Finding) -> str:
    """The rule of a finding in words."""
    parts = [
        f"{one.measure} of {combination(one.of)}: reproduced if the whole 95% interval lies above {one.above:g}, not "
        f"reproduced if it lies below {one.below:g}"
        for one in finding.contrasts
    ]
    if len(parts) > 1:
        parts.append("reproduced if all are, not reproduced if any is not")
    return "; ".join([*parts, "else undecided."])


def _judge(found: Mapping[str, Values], contrast: Contrast) -> Judged:
    effect = estimate(found, contrast.measure, contrast.of, contrast.above)
    few = {name: len(found[name].seeds) for name in contrast.of if len(found[name].seeds) < MIN_SEEDS}
    require(
        not few,
        f"{contrast.measure}: {', '.join(f'{name} has {count} training seeds' for name, count in few.items())}.",
        f"Train {MIN_SEEDS} or more: fewer are no evidence for a verdict.",
    )
    word = UNDECIDED
    if effect.low > contrast.above:
        word = REPRODUCED
    elif effect.high < contrast.below:
        word = NOT_REPRODUCED
    return Judged(contrast, effect, word)


def _together(verdicts: Sequence[Word]) -> Word:
    if all(one == REPRODUCED for one in verdicts):
        return REPRODUCED
    return NOT_REPRODUCED if NOT_REPRODUCED in verdicts else UNDECIDED
