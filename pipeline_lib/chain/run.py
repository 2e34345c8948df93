"""Runs the chain: what a product needs is made first, and what the store holds is found there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline_lib.chain.plan import Plan
from pipeline_lib.chain.stages import STAGES, Found, Report, Stage
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import Dataset, open_dataset

Make = Callable[[Stage, Found], Any]


def silent(stage: str, done: int, total: int) -> None:
    """A `Report` that tells nobody."""


@dataclass(frozen=True)
class Step:
    """What a stage of a run came to."""

    stage: str
    product: Any
    """A dataset, one by scorer, or None."""
    seconds: float
    """Without those of the stages that it needed."""
    ran: bool
    """False where the store held the answer."""

    def datasets(self) -> list[Dataset]:
        """The datasets of the product."""
        if isinstance(self.product, Mapping):
            return list(self.product.values())
        return [self.product] if self.product else []


@dataclass
class Walk:
    """One walk along the chain towards a product."""

    plan: Plan
    make: Make
    there: Mapping[str, Any]
    """Products that need not be made."""
    stages: Sequence[Stage] = STAGES
    steps: dict[str, Step] = field(default_factory=dict)
    """What was made, by stage."""

    def product(self, name: str, before: int | None = None) -> Any:
        """The product of that name, as the last stage before number `before` that gives it leaves it."""
        if name in self.there:
            return self.there[name]
        places = [i for i, stage in enumerate(self.stages[:before]) if stage.gives == name]
        if not places:
            raise ConfigError(f"No stage of the chain gives {name}.", f"Ask for {', '.join(_products(self.stages))}.")
        place = places[-1]
        stage = self.stages[place]
        if stage.name not in self.steps:
            found = {need: self.product(need, place) for need in stage.needs(self.plan)}
            started, clock = time.time(), time.monotonic()
            made = self.make(stage, found)
            step = Step(stage.name, made, time.monotonic() - clock, True)
            ran = any(dataset.created >= started for dataset in step.datasets())
            self.steps[stage.name] = Step(stage.name, made, step.seconds, ran)
        return self.steps[stage.name].product


def _products(stages: Sequence[Stage]) -> list[str]:
    return [*dict.fromkeys(stage.gives for stage in stages)]


def needed(plan: Plan, goal: str, stages: Sequence[Stage] = STAGES) -> set[str]:
    """The products that `goal` rests on, itself among them."""
    found, waiting = set[str](), [goal]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [need for stage in stages if stage.gives == name for need in stage.needs(plan)]
    return found


def walk(plan: Plan, goal: str, report: Report = silent, there: Mapping[str, Any] | None = None) -> Walk:
    """Make the product `goal` in this process, and before it what it needs.

    Args:
        report: takes progress.
        there: products that need not be made; None for those that the plan was given.

    Raises:
        PipelineError: what the stages raise.
    """
    found = opened(plan.given) if there is None else there
    if goal != "scores" and "agreement" not in needed(plan, goal):  # only what labels read is scored for them
        plan = replace(plan, scorers=())
    walked = Walk(plan, lambda stage, inputs: stage.make(plan, inputs, report), found)
    walked.product(goal)
    return walked


def products(plan: Plan, goal: str, report: Report = silent, there: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`walk`'s products by name: those that were made, and those that were there."""
    walked = walk(plan, goal, report, there)
    by_stage = {stage.name: stage.gives for stage in walked.stages}
    return {**walked.there, **{by_stage[step.stage]: step.product for step in walked.steps.values()}}


def opened(given: Mapping[str, Any]) -> dict[str, Any]:
    """Datasets by name from their URIs; scores by scorer."""
    return {
        name: {scorer: open_dataset(one) for scorer, one in uri.items()} if name == "scores" else open_dataset(uri)
        for name, uri in given.items()
        if uri
    }
