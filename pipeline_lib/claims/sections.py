"""Every claim of the project with its results and verdicts: the parts of CLAIMS.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline_lib.claims.results import FIRST, Result, results
from pipeline_lib.sweeps.claim import Claim, load, names
from pipeline_lib.sweeps.verdict import Verdict, judge

NOT_RUN, OUTDATED = "not run", "out of date"


@dataclass(frozen=True)
class Section:
    """A claim with one run of it, or none; without verdicts where the claim file has changed since."""

    claim: Claim
    result: Result | None
    verdicts: tuple[Verdict, ...]

    @property
    def title(self) -> str:
        """The claim's, with the preset unless it is the built-in world."""
        preset = self.result.preset if self.result else FIRST
        return self.claim.title if preset == FIRST else f"{self.claim.title} ({preset})"

    @property
    def words(self) -> Sequence[str]:
        """Each finding's verdict."""
        if self.verdicts:
            return [one.word for one in self.verdicts]
        return [OUTDATED if self.result else NOT_RUN] * len(self.claim.findings)


def sections() -> list[Section]:
    """Every claim of the project, with its results."""
    found = []
    for name in names():
        claim = load(name)
        found += [_judged(claim, result) for result in results(claim)] or [Section(claim, None, ())]
    return found


def _judged(claim: Claim, result: Result) -> Section:
    if result.rules != claim.rules:
        return Section(claim, result, ())
    return Section(claim, result, tuple(judge(result.outcomes, one) for one in claim.findings))
