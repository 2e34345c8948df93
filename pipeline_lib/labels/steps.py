"""The steps a label recipe is made of, and how plain lists (from YAML, JSON or code) become them.

A step is written as one of

    {flip: {rate: 0.2, seed: 7}}                  name with its options
    {vote: [human, clip, hpsv2], ties: drop}      name with its main option; further options beside it
    dedpo                                         name alone
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar

from pipeline_lib.errors import LabelError
from pipeline_lib.registry import unknown_name

HUMAN = "human"
FILTERS = ("ties", "unlabelled")
AGGREGATES = ("random", "sum", "normalised_sum")
CALIBRATIONS = ("platt", "none")


@dataclass(frozen=True)
class Step:
    """Base of all steps. `main` is the option that may be given as the step's value."""

    name: ClassVar[str]
    main: ClassVar[str] = ""
    sets_target: ClassVar[bool] = False
    """Gives every pair it keeps its training target; a recipe has exactly one such step."""

    def scorers(self) -> list[str]:
        """The scorers whose scores the step reads."""
        return []

    def check(self) -> str:
        """What is wrong with the options, or ""."""
        return ""

    def plain(self) -> dict[str, Any]:
        """The step as JSON-like values with every option spelled out."""
        return {
            self.name: {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        }


@dataclass(frozen=True)
class Filter(Step):
    """Drop pairs whose human label is a tie (`ties`) or that have none (`unlabelled`)."""

    name: ClassVar[str] = "filter"
    main: ClassVar[str] = "drop"
    drop: tuple[str, ...]

    def check(self) -> str:
        return _one_of("drop", self.drop, FILTERS)


@dataclass(frozen=True)
class Single(Step):
    """One annotator decides: `human`, or a scorer (the higher score wins; equal scores drop the pair)."""

    name: ClassVar[str] = "single"
    main: ClassVar[str] = "annotator"
    sets_target: ClassVar[bool] = True
    annotator: str

    def scorers(self) -> list[str]:
        return [] if self.annotator == HUMAN else [self.annotator]


@dataclass(frozen=True)
class Vote(Step):
    """Majority of the voters' signs (BalancedDPO): sign(sum_k sign(score_k(image_0) - score_k(image_1))).

    A voter abstains on equal scores; `human` abstains on a tie or where there is no human label.
    `ties` says what decides a sum of zero: `human`, `drop`, `prior:<scorer>`, or `margin` (the scorer among the voters
    with the largest score difference, each in units of that scorer's root mean square difference). Where the rule
    does not decide either, the pair is dropped.
    """

    name: ClassVar[str] = "vote"
    main: ClassVar[str] = "voters"
    sets_target: ClassVar[bool] = True
    voters: tuple[str, ...]
    ties: str = HUMAN

    def prior(self) -> str | None:
        """The scorer of tie rule `prior:<scorer>`."""
        return self.ties.partition(":")[2] if self.ties.startswith("prior:") else None

    def scorers(self) -> list[str]:
        prior = self.prior()
        return [voter for voter in self.voters if voter != HUMAN] + ([prior] if prior else [])

    def check(self) -> str:
        if not self.voters:
            return "there are no voters"
        if len(set(self.voters)) < len(self.voters):
            return "a voter is named twice"
        if self.ties == "margin" and set(self.voters) == {HUMAN}:
            return "ties=margin needs a scorer among the voters"
        if not self.prior() and self.ties not in (HUMAN, "drop", "margin"):
            return f"ties={self.ties!r} is none of human, drop, margin, prior:<scorer>"
        return ""


@dataclass(frozen=True)
class Aggregate(Step):
    """BalancedDPO's ablation baselines over scorers.

    `random` takes one scorer per pair at random; `sum` the sign of the sum of raw score differences; `normalised_sum`
    of differences in units of each scorer's root mean square difference. A zero drops the pair.
    """

    name: ClassVar[str] = "aggregate"
    main: ClassVar[str] = "of"
    sets_target: ClassVar[bool] = True
    of: tuple[str, ...]
    how: str = "normalised_sum"
    seed: int = 0

    def scorers(self) -> list[str]:
        return list(self.of)

    def check(self) -> str:
        if HUMAN in self.of:
            return "human has no score to aggregate; use vote"
        return _one_of("how", [self.how], AGGREGATES) or ("" if self.of else "there are no scorers")


@dataclass(frozen=True)
class Reveal(Step):
    """Keep the human labels of a random share of the labelled pairs and hide the others from all later steps."""

    name: ClassVar[str] = "reveal"
    main: ClassVar[str] = "fraction"
    fraction: float
    seed: int = 0

    def check(self) -> str:
        return "" if 0 < self.fraction <= 1 else f"fraction={self.fraction} is not in (0, 1]"


@dataclass(frozen=True)
class PseudoLabel(Step):
    """A synthetic annotator: g_hat, the probability that image_0 wins, for every pair.

    Its evidence is one scorer's score difference, or the mean vote of several. `platt` maps it to sigmoid(slope *
    evidence), fitted to the revealed human labels (there is no intercept: which image is called 0 means nothing) and
    cross-fitted over `folds` groups of prompts, so that no pair's g_hat depends on its own label or its prompt's.
    `none` takes the sign: 1, 0, or 0.5.
    """

    name: ClassVar[str] = "pseudo_label"
    main: ClassVar[str] = "of"
    of: tuple[str, ...]
    calibrate: str = "platt"
    folds: int = 5
    seed: int = 0

    def scorers(self) -> list[str]:
        return list(self.of)

    def check(self) -> str:
        if HUMAN in self.of:
            return "human labels cannot be their own synthetic annotator"
        if self.folds < 2:
            return f"folds={self.folds} is less than 2"
        return _one_of("calibrate", [self.calibrate], CALIBRATIONS) or ("" if self.of else "there are no scorers")


@dataclass(frozen=True)
class Dedpo(Step):
    """DeDPO's labels: the human label where it is known (is_human), g_hat elsewhere, and g_hat beside both."""

    name: ClassVar[str] = "dedpo"
    sets_target: ClassVar[bool] = True


@dataclass(frozen=True)
class Mix(Step):
    """The naive mixture DeDPO is compared with: human labels where known, elsewhere what g_hat holds more probable."""

    name: ClassVar[str] = "mix"
    sets_target: ClassVar[bool] = True


@dataclass(frozen=True)
class Flip(Step):
    """Invert a random share of the labels that are not ties: of the targets, or, before there are any, of the human
    labels. `flipped` marks them, as a ground truth for diagnostics that no method may use."""

    name: ClassVar[str] = "flip"
    main: ClassVar[str] = "rate"
    rate: float
    seed: int = 0

    def check(self) -> str:
        return "" if 0 <= self.rate <= 1 else f"rate={self.rate} is not in [0, 1]"


STEPS: dict[str, type[Step]] = {
    step.name: step for step in (Filter, Single, Vote, Aggregate, Reveal, PseudoLabel, Dedpo, Mix, Flip)
}


def parse(recipe: Sequence[Any]) -> list[Step]:
    """Steps from plain values; raises LabelError naming the step (counted from 1) and the remedy.

    Checks what can be known without data: names, option names and types, ranges, and that the order makes sense.
    """
    if isinstance(recipe, (str, Mapping)) or not isinstance(recipe, Sequence) or not recipe:
        raise LabelError(f"A label recipe is a list of steps, not {recipe!r}.", "Write for example [{single: human}].")
    steps = [_parse_step(i, item) for i, item in enumerate(recipe, start=1)]
    pseudo = target = 0
    for i, step in enumerate(steps, start=1):
        problem = step.check()
        if problem:
            raise LabelError(f"Step {i} ({step.name}): {problem}.", "Change the option.")
        if step.sets_target and target:
            raise LabelError(
                f"Step {i} ({step.name}): step {target} ({steps[target - 1].name}) has set the target already.",
                "Keep one of the two.",
            )
        if isinstance(step, (Dedpo, Mix)) and not pseudo:
            raise LabelError(f"Step {i} ({step.name}): there is no g_hat yet.", "Put a pseudo_label step before it.")
        if target and isinstance(step, (Reveal, PseudoLabel)):
            raise LabelError(f"Step {i} ({step.name}) comes after the target is set.", "Move it up.")
        pseudo = i if isinstance(step, PseudoLabel) else pseudo
        target = i if step.sets_target else target
    if not target:
        setters = ", ".join(name for name, kind in STEPS.items() if kind.sets_target)
        raise LabelError("The recipe never says what the target is.", f"Add one of: {setters}.")
    return steps


def _parse_step(i: int, item: Any) -> Step:
    known = list(STEPS)
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, Mapping) or not item:
        raise LabelError(f"Step {i} is {item!r}.", "Write a step as {name: options}.")
    name = next((key for key in item if key in STEPS), None)
    if name is None:
        error = unknown_name("label step", str(next(iter(item))), known)
        raise LabelError(f"Step {i}: {error.problem}", error.remedy)
    kind = STEPS[name]
    value, beside = item[name], {key: value for key, value in item.items() if key != name}
    if isinstance(value, Mapping):
        options = {**value, **beside}
    elif value is None or not kind.main:
        options = beside if value is None else {"": value}
    else:
        options = {kind.main: value, **beside}
    expected = {f.name: f for f in fields(kind)}
    for option in options:
        if option not in expected:
            error = unknown_name("option", str(option), list(expected) or ["(none)"])
            raise LabelError(f"Step {i} ({name}): {error.problem}", error.remedy)
    for option, f in expected.items():
        if f.default is MISSING and option not in options:
            raise LabelError(f"Step {i} ({name}) lacks {option!r}.", f"Write {{{name}: {{{option}: ...}}}}.")
    return kind(**{option: _convert(i, name, option, str(expected[option].type), v) for option, v in options.items()})


def _convert(i: int, name: str, option: str, kind: str, value: Any) -> Any:
    """`value` as the dataclass field's type; a single name is a list of one."""
    wrong = LabelError(f"Step {i} ({name}): {option}={value!r} is not {_KINDS[kind]}.", "Change the option.")
    if kind == "tuple[str, ...]":
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise wrong
        return tuple(items)
    if isinstance(value, bool):
        raise wrong
    if kind == "float" and isinstance(value, (int, float)):
        return float(value)
    if (kind == "int" and isinstance(value, int)) or (kind == "str" and isinstance(value, str)):
        return value
    raise wrong


_KINDS = {"tuple[str, ...]": "a list of names", "float": "a number", "int": "a whole number", "str": "a name"}


def _one_of(option: str, values: Sequence[str], known: Sequence[str]) -> str:
    bad = [value for value in values if value not in known]
    return f"{option}={bad[0]!r} is none of {', '.join(known)}" if bad else ""
