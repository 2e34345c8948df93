"""A claim: its source, the sweep that tests it, and the rule of the verdict, fixed in one file before any result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib import presets
from pipeline_lib.core.config import require
from pipeline_lib.core.digest import digest
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.sweeps.plan import Setting

MIN_SEEDS = 3
"""Fewer training seeds are no evidence."""
FOLDER = Path(presets.__file__).parent / "claims"
"""One YAML file per claim."""


@dataclass(frozen=True)
class Contrast:
    """An effect, the sum of weight times setting's mean of a measure, and where its interval must lie."""

    measure: str
    of: Mapping[str, float]
    above: float
    """The claim holds where the whole 95% interval lies above this ..."""
    below: float
    """... and does not where the whole interval lies below this; never less than `above`."""

    def as_json(self) -> dict[str, Any]:
        """As the claim file has it."""
        return {"measure": self.measure, "of": dict(self.of), "above": self.above, "below": self.below}


@dataclass(frozen=True)
class Finding:
    """One thing that is claimed; all its contrasts must hold."""

    name: str
    says: str
    contrasts: tuple[Contrast, ...]


@dataclass(frozen=True)
class Claim:
    """A claim file."""

    name: str
    title: str
    sources: tuple[str, ...]
    says: str
    """What the paper says."""
    miniature: str
    """What the small world can and cannot decide; written before the results."""
    remarks: str
    """What there is to say after them; empty for nothing."""
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    image_seeds: tuple[int, ...] | None
    """None leaves them to the preset."""
    reference: str | None
    presets: tuple[str, ...]
    """Where it can be tested, for one that names what only some have; empty for every preset."""
    extra: tuple[str, ...]
    """Measures beside those of the findings."""
    findings: tuple[Finding, ...]
    figures: tuple[str, ...]
    """Measures to draw."""

    @property
    def shown(self) -> list[str]:
        """The measures of findings and figures, each once, in that order."""
        of_findings = [contrast.measure for finding in self.findings for contrast in finding.contrasts]
        return list(dict.fromkeys([*of_findings, *self.figures]))

    @property
    def measures(self) -> list[str]:
        """Every measure that findings, figures or the sweep ask for, each once, in that order."""
        return list(dict.fromkeys([*self.shown, *self.extra]))

    def runs_on(self, preset: str) -> bool:
        """Whether it can be tested there."""
        return not self.presets or preset in self.presets

    def check(self, preset: str) -> None:
        """Raises ConfigError for a preset that it cannot be tested on."""
        require(
            self.runs_on(preset),
            f"The claim {self.name} cannot be tested on {preset}.",
            f"Its file has it for: {', '.join(self.presets)}.",
        )

    @property
    def rules(self) -> str:
        """A digest of the settings, seeds and rules: results keep that of the file they were measured for."""
        return digest(
            {
                "settings": {setting.name: setting.identity for setting in self.settings},
                "seeds": self.seeds,
                "image_seeds": self.image_seeds,
                "findings": {one.name: [contrast.as_json() for contrast in one.contrasts] for one in self.findings},
            },
            16,
        )


def names() -> list[str]:
    """The claims, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Claim:
    """The claim of that name.

    Raises:
        UnknownNameError: no such claim; or it names a key, setting, parameter or measure that there is not.
        ConfigError: the file cannot be read, or makes no sense; names the place and the remedy.
    """
    from pipeline_lib.sweeps.claim_files import read

    if name not in names():
        raise unknown_name("claim", name, names())
    return read(name, (FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
