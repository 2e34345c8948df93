"""The gate before `@champion`: whether a comparison is good enough for a model to take the champion's place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline_lib.core.config import require
from pipeline_lib.evaluation.winrates import TRUE, Comparison
from pipeline_lib.reports import label
from pipeline_lib.reports.words import percent


@dataclass(frozen=True)
class Gate:
    """What a model must reach against its rival: the present champion, or the base while there is none.

    Attributes:
        average: the 95% interval of the average win rate over the scorers must lie above this share.
        scorer: no single scorer's win rate may have its whole 95% interval below this share.
    """

    average: float = 0.5
    scorer: float = 0.45

    def __post_init__(self) -> None:
        for name, value in (("gate_average", self.average), ("gate_scorer", self.scorer)):
            require(0.0 <= value < 1.0, f"{name} is {value}.", "Give a share from 0 to below 1, for example 0.5.")


@dataclass(frozen=True)
class Check:
    """One condition of the gate, and in words what was found."""

    passed: bool
    words: str


@dataclass(frozen=True)
class Verdict:
    """The gate's answer for one model.

    Attributes:
        rival: name of the model it was compared with, in the words of the report.
    """

    rival: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every condition holds."""
        return all(check.passed for check in self.checks)

    @property
    def sentence(self) -> str:
        """The answer and its reasons."""
        answer = "Passes the gate" if self.passed else "Does not pass the gate"
        return f"{answer} against {self.rival}: {'; '.join(check.words for check in self.checks)}."

    def as_json(self) -> dict[str, Any]:
        """For `report.json`."""
        checks = [{"passed": check.passed, "words": check.words} for check in self.checks]
        return {"rival": self.rival, "passed": self.passed, "checks": checks, "sentence": self.sentence}


def judge(comparison: Comparison, rival: str, gate: Gate) -> Verdict:
    """Hold a model's comparison with `rival` against the gate. The known truth, where there is one, has no vote."""
    average = comparison.average
    enough = average.low > gate.average
    found = f"average win rate {_rate(average.point, average.low, average.high)}"
    first = Check(enough, f"{found} {'is' if enough else 'is not'} above {percent(gate.average)} with its interval")
    rates = {name: row.win_rate for name, row in comparison.scorers.items() if name != TRUE}
    low = {name: rate for name, rate in rates.items() if rate.high < gate.scorer}
    if low:
        worse = ", ".join(f"{label(name)} {_rate(r.point, r.low, r.high)}" for name, r in low.items())
        return Verdict(rival, (first, Check(False, f"significantly below {percent(gate.scorer)}: {worse}")))
    return Verdict(rival, (first, Check(True, f"no scorer is significantly below {percent(gate.scorer)}")))


@dataclass(frozen=True)
class Decision:
    """What happens to the alias `champion`, and why."""

    promote: bool
    reason: str


def decide(gate: Mapping[str, Any], compared: str | None, champion: str | None, champion_name: str) -> Decision:
    """Whether a model takes the champion's place now.

    Args:
        gate: the model's entry in `report.json`'s `gate`.
        compared: digest of the champion's dataset in that evaluation, None for the base.
        champion: digest of the present champion's dataset, None when there is no champion, "" when it is unknown.
        champion_name: the present champion, for people.
    """
    if compared != champion:
        problem = f"the evaluation does not compare it with {champion_name}, the present champion"
        return Decision(False, f"Not promoted: {problem}. Its numbers: {gate['sentence']}")
    return Decision(gate["passed"], f"{'Promoted' if gate['passed'] else 'Not promoted'}. {gate['sentence']}")


def _rate(point: float, low: float, high: float) -> str:
    return f"{percent(point)} (95% interval {percent(low)} to {percent(high)})"
