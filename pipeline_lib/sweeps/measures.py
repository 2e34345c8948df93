"""What a sweep measures of its models, by name: `win/<judge>`, `gain/<judge>`, `diversity`, `implicit`, ..."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline_lib.core.registry import unknown_name
from pipeline_lib.scoring.scorers import SCORERS

TRUE, AVERAGE, QUALITY = "true", "average", "quality"
JUDGES = {
    TRUE: "the known truth",
    AVERAGE: "the mean over the scorers",
    QUALITY: "the known truth, or the mean over the scorers where there is none",
}
"""Judges beside the scorers: `average` never counts the truth in."""
Kind = Literal["win", "gain", "diversity", "implicit", "train", "labels"]
AGREEMENT = "agreement/"
PATTERNS = (
    "win/<judge>",
    "gain/<judge>",
    "diversity",
    "implicit",
    "implicit/<generator>",
    "train/<metric>",
    "labels/<count>",
    "labels/agreement/<voter>",
)
HALF = ("accuracy", "auroc", "accuracy_t0", "accuracy_t1", "accuracy_t2", "accuracy_t3")
"""Training metrics whose name ends like this are one half where the model knows nothing."""


@dataclass(frozen=True)
class Measure:
    """One measure of a model."""

    name: str
    kind: Kind
    of: str
    """The judge, generator, metric, count or `agreement/<voter>`; empty where the kind has none."""
    words: str
    null: float
    """The value of a model that is no different from its base, or knows nothing."""
    share: bool
    """Whether the values are shares, 0 to 1."""

    @property
    def has_units(self) -> bool:
        """Whether there is one value for each prompt or pair, not one for the whole model."""
        return self.kind not in ("train", "labels")


def measure_of(name: str) -> Measure:
    """The measure of that name.

    Raises:
        UnknownNameError: no such measure, or no such judge; lists those there are.
    """
    kind, _, of = name.partition("/")
    if kind in ("win", "gain") and of:
        judges = [*JUDGES, *SCORERS.names()]
        if of not in judges:
            raise unknown_name(f"judge in the measure {name!r},", of, judges)
        by = JUDGES.get(of, of)
        if kind == "win":
            return Measure(name, "win", of, f"win rate over the base by {by}", 0.5, True)
        words = f"gain over the base by {by}, in standard deviations of the base's scores over the prompts"
        return Measure(name, "gain", of, words, 0.0, False)
    if name == "diversity":
        words = "mean distance between images of one prompt, less the base's"
        return Measure(name, "diversity", "", words, 0.0, False)
    if kind == "implicit" and (of or name == kind):
        pairs = f"held-out pairs with an image by {of}" if of else "held-out pairs"
        return Measure(name, "implicit", of, f"accuracy of the implicit reward on {pairs}", 0.5, True)
    if kind == "train" and of:
        half = of.endswith(HALF)
        words = f"{of}, mean over the second half of the training run"
        return Measure(name, "train", of, words, 0.5 if half else 0.0, half)
    if kind == "labels" and of.removeprefix(AGREEMENT):
        if of.startswith(AGREEMENT):
            words = f"share of decided labels that agree with {of.removeprefix(AGREEMENT)}"
            return Measure(name, "labels", of, words, 0.5, True)
        return Measure(name, "labels", of, f"labels that are {of}, as a share of the pairs kept", 0.0, True)
    raise unknown_name("measure", name, list(PATTERNS))
