"""What a sweep asks: its settings and seeds, what is measured of the models, and the claim that it tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_lib.core.config import EvaluateConfig, require
from pipeline_lib.core.digest import digest
from pipeline_lib.core.identity import identity, settled
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.sweeps.claim import MIN_SEEDS, Claim
from pipeline_lib.sweeps.measures import AVERAGE, QUALITY, TRUE, Measure, measure_of
from pipeline_lib.sweeps.plan import Cell, Setting, cells_of, settings_of

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Question:
    """A sweep before it runs.

    Attributes:
        judging: how models are painted and compared.
        scorers: the reward models that judge.
        measures: names (`measures.measure_of`) of what is measured of every model.
        claim: the claim whose findings the outcomes decide.
    """

    preset: str
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    reference: str | None
    judging: EvaluateConfig
    scorers: tuple[str, ...]
    measures: tuple[str, ...]
    claim: Claim | None = None

    @property
    def title(self) -> str:
        """The claim's title, or the number of settings."""
        return self.claim.title if self.claim else f"{len(self.settings)} settings, {len(self.seeds)} seeds"

    @property
    def cells(self) -> list[Cell]:
        """One for each model."""
        return cells_of(self.settings, self.seeds)

    @property
    def headline(self) -> tuple[str, ...]:
        """The measures that decide: those of the claim, or win rates by the best judge and by the scorers together."""
        return tuple(self.claim.measures) if self.claim else tuple(dict.fromkeys([*_asked(self), *HEADLINE]))

    def wants(self, kind: str) -> list[Measure]:
        """The measures of a kind."""
        return [measure for measure in map(measure_of, self.measures) if measure.kind == kind]

    @property
    def key(self) -> str:
        """A digest of what is asked, the same for whoever asks it again."""
        settings = {setting.name: setting.identity for setting in self.settings}
        rules = self.claim.rules if self.claim else None
        return digest(
            [
                self.title,
                rules,
                self.preset,
                settings,
                self.seeds,
                self.reference,
                identity(settled(self.judging), EvaluateConfig),
                self.scorers,
                self.measures,
            ],
            16,
        )


HEADLINE = (f"win/{QUALITY}", f"win/{AVERAGE}", f"gain/{QUALITY}")


def ask(
    preset: str,
    judging: EvaluateConfig,
    scorers: Sequence[str],
    truth: bool,
    claim: Claim | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    common: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
    reference: str | None = None,
    measures: Sequence[str] | None = None,
) -> Question:
    """The question in a flow's parameters, checked.

    Args:
        truth: whether the prompt set knows the truth.
        claim: gives settings, seeds and measures; `seeds` and `reference` take the place of its own, `measures` are
            added to its own, and `common` fills in what its settings leave to the preset.
        measures: without a claim, in the place of the win rates and gains by every judge.

    Raises:
        ConfigError: nothing or too little to run, a claim with settings of one's own or on a preset that it is not
            for, or a measure that cannot be taken.
        UnknownNameError: an unknown parameter, measure, judge or reference.
    """
    if claim:
        claim.check(preset)
        own = {"grid": grid, "settings": settings}
        given = [name for name, value in own.items() if value]
        require(
            not given,
            f"The claim {claim.name} has its settings; {', '.join(given)} cannot change them.",
            "Leave it out, or sweep without the claim.",
        )
        settings = {setting.name: setting.parameters for setting in claim.settings}
    chosen = settings_of(common, grid, settings)
    trained = tuple(seeds or (claim.seeds if claim else SEEDS))
    least, why = (MIN_SEEDS, "verdicts need 3") if claim else (2, "one seed cannot say how much seeds matter")
    require(
        len(trained) >= least,
        f"The training seeds are {list(trained)}; {why}.",
        f"Give {least} or more, each once.",
    )
    reference = reference or (claim.reference if claim else None)
    names = [setting.name for setting in chosen]
    if reference is not None and reference not in names:
        raise unknown_name("setting as the reference", reference, names)
    judges = [*scorers, *([TRUE] if truth else []), AVERAGE, QUALITY]
    by_judges = [f"{kind}/{judge}" for kind in ("win", "gain") for judge in judges]
    if claim:
        wanted = [*claim.measures, *(measures or ()), *by_judges]
    else:
        wanted = list(measures or by_judges)
    found = Question(
        preset, tuple(chosen), trained, reference, judging, tuple(scorers), tuple(dict.fromkeys(wanted)), claim
    )
    cells_of(found.settings, found.seeds)  # each seed once
    for measure in map(measure_of, found.measures):
        if measure.kind in ("win", "gain") and measure.of not in judges:
            raise unknown_name(f"judge in the measure {measure.name!r},", measure.of, judges)
    require(
        not found.wants("diversity") or len(judging.seeds) > 1,
        f"Diversity is measured between images of one prompt, and the image seeds are {list(judging.seeds)}.",
        "Give two image seeds or more.",
    )
    return found


def _asked(question: Question) -> list[str]:
    """What was asked for beside what judges say."""
    return [name for name in question.measures if measure_of(name).kind not in ("win", "gain")]
