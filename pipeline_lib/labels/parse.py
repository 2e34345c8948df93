"""How a recipe, a list from YAML, JSON or code, becomes steps.

A step is written as one of

    {flip: {rate: 0.2, seed: 7}}                  name with its options
    {vote: [human, clip, hpsv2], ties: drop}      name with its main option; further options beside it
    dedpo                                         name alone
    Flip(rate=0.2, seed=7)                        in Python, the step itself
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pipeline_lib.core.errors import LabelError, excerpt
from pipeline_lib.core.registry import Registry, unknown_name
from pipeline_lib.labels.dedpo import Dedpo, Mix, PseudoLabel, Reveal, Soft
from pipeline_lib.labels.filters import Filter
from pipeline_lib.labels.flips import Flip
from pipeline_lib.labels.oracle import Oracle
from pipeline_lib.labels.samples import Balance, Split, Subsample
from pipeline_lib.labels.steps import HUMAN, SELF_TRAINING, TARGET, Step, option
from pipeline_lib.labels.votes import Aggregate, Single, Vote
from pipeline_lib.labels.weights import Weight
from pipeline_lib.scoring.scorers import SCORERS

STEPS: Registry[type[Step]] = Registry(
    "label step",
    {
        step.name: step
        for step in (
            Filter,
            Reveal,
            PseudoLabel,
            Oracle,
            Single,
            Vote,
            Aggregate,
            Soft,
            Dedpo,
            Mix,
            Flip,
            Weight,
            Balance,
            Subsample,
            Split,
        )
    },
    group="label_steps",
)


def parse(recipe: Sequence[Any]) -> list[Step]:
    """Steps from plain values; raises LabelError naming the step (counted from 1) and the remedy.

    Checks what can be known without data: names, option names and types, ranges, and that the order makes sense.
    """
    if isinstance(recipe, (str, Mapping)) or not isinstance(recipe, Sequence) or not recipe:
        raise LabelError(
            f"A label recipe is a list of steps, not {excerpt(recipe)}.", "Write for example [{single: human}]."
        )
    steps = [_parse_step(i, item) for i, item in enumerate(recipe, start=1)]
    for i, step in enumerate(steps, start=1):
        try:
            step.check()
        except LabelError as error:
            raise at_step(i, step, error) from None
    _check_order(steps)
    return steps


def check_scorers(steps: Sequence[Step], given: Collection[str], runnable: Collection[str] = ()) -> None:
    """Raise LabelError, naming the step, for a scorer without scores.

    Args:
        steps: a recipe.
        given: scorers whose scores are at hand.
        runnable: scorers whose scores can still be made.
    """
    for i, step in enumerate(steps, start=1):
        for scorer in step.scorers():
            if scorer in given or scorer in runnable:
                continue
            if scorer == SELF_TRAINING:
                remedy = "Run the flow self-training on a trained model, and give its dataset in `scores`."
            elif scorer in SCORERS:
                remedy = "Run the score stage for it, or take it out of the recipe."
            else:
                known = dict.fromkeys([*given, *SCORERS.names(), SELF_TRAINING])
                raise at_step(i, step, unknown_name("scorer", scorer, list(known)))
            listed = ", ".join(sorted(given)) or "none"
            raise at_step(i, step, LabelError(f"it needs scores by {scorer}; given: {listed}.", remedy))


def at_step(i: int, step: Step | str, error: Exception) -> LabelError:
    """A step's error (PipelineError) as the recipe's: `Step 2 (flip): ...`."""
    name = step if isinstance(step, str) else step.name
    problem, remedy = error.args
    return LabelError(f"Step {i} ({name}): {problem}", remedy)


def _check_order(steps: Sequence[Step]) -> None:
    """Raise LabelError where a column is set twice, read before it is set, or hidden from a step that needs it."""
    setter: dict[str, int] = {}
    hider: dict[str, int] = {}
    for i, step in enumerate(steps, start=1):
        target = setter.get(TARGET, 0)
        for column in sorted(step.sets & setter.keys()):
            first = setter[column]
            named = "the target" if column == TARGET else column
            by = f" ({steps[first - 1].name})" if column == TARGET else ""
            raise LabelError(
                f"Step {i} ({step.name}): step {first}{by} has set {named} already.", "Keep one of the two."
            )
        for column in sorted(step.reads - setter.keys()):
            makers = [name for name, kind in STEPS.items() if column in kind.sets]
            remedy = f"Put a {' or '.join(makers)} step before it." if makers else "No step sets it."
            raise LabelError(f"Step {i} ({step.name}): there is no {column} yet.", remedy)
        for column in sorted(step.needs_all & hider.keys()):
            by = steps[hider[column] - 1].name
            what = "the human labels" if column == HUMAN else column
            raise LabelError(
                f"Step {i} ({step.name}): step {hider[column]} ({by}) has hidden {what} that it reads.",
                f"Move it above step {hider[column]}.",
            )
        if target and step.place == "before":
            raise LabelError(f"Step {i} ({step.name}) comes after the target is set.", f"Move it above step {target}.")
        if not target and step.place == "after":
            raise LabelError(f"Step {i} ({step.name}) comes before the target is set.", "Move it down.")
        setter |= dict.fromkeys(step.sets, i)
        hider |= dict.fromkeys(step.hides, i)
    if TARGET not in setter:
        setters = ", ".join(name for name, kind in STEPS.items() if TARGET in kind.sets)
        raise LabelError("The recipe never says what the target is.", f"Add one of: {setters}.")


def _parse_step(i: int, item: Any) -> Step:
    if isinstance(item, Step):
        item = item.plain()
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, Mapping) or not item:
        raise LabelError(f"Step {i} is {excerpt(item)}.", "Write a step as {name: options}.")
    named = [str(key) for key in item if key in STEPS]
    if not named:
        error = unknown_name("label step", str(next(iter(item))), list(STEPS))
        raise LabelError(f"Step {i}: {error.problem}", error.remedy)
    if len(named) > 1:
        raise LabelError(f"Step {i} holds two steps, {' and '.join(named)}.", "Start each step with its own dash.")
    (name,) = named
    kind = STEPS[name]
    value, beside = item[name], {str(key): value for key, value in item.items() if key != name}
    if isinstance(value, Mapping):
        options = {**{str(key): v for key, v in value.items()}, **beside}
    elif value is None:
        options = beside
    else:
        options = {kind.main or "": value, **beside}
    expected = {option(f.name): f for f in fields(kind)}
    for written in options:
        if written not in expected:
            raise at_step(i, name, unknown_name("option", written, list(expected) or ["(none)"]))
    for wanted, f in expected.items():
        if f.default is MISSING and f.default_factory is MISSING and wanted not in options:
            raise LabelError(f"Step {i} ({name}) lacks {wanted!r}.", f"Write {{{name}: {{{wanted}: ...}}}}.")
    kinds = get_type_hints(kind)
    values = {
        expected[key].name: _convert(i, name, key, kinds[expected[key].name], value) for key, value in options.items()
    }
    return kind(**values)


_KINDS = {
    tuple[str, ...]: "a list of names",
    Mapping[str, float]: "a mapping from names to numbers",
    float: "a number",
    int: "a whole number of 64 bits",
    bool: "true or false",
    str: "a name",
    NoneType: "nothing",
}


def _convert(i: int, name: str, written: str, kind: Any, value: Any) -> Any:
    """`value` as the dataclass field's type; a single name is a list of one, and a name may be a number.

    Raises:
        LabelError: it is not of that type.
    """
    try:
        return _as(kind, value)
    except ValueError:
        raise LabelError(
            f"Step {i} ({name}): {written}={excerpt(value)} is not {_described(kind)}.", "Change the option."
        ) from None


def _as(kind: Any, value: Any) -> Any:
    """`value` as a type of _KINDS, a Literal, or a union of them; raises ValueError."""
    if get_origin(kind) is Literal:
        if any(type(value) is type(allowed) and value == allowed for allowed in get_args(kind)):
            return value
    elif get_origin(kind) in (UnionType, Union):
        for one in get_args(kind):
            with suppress(ValueError):
                return _as(one, value)
    elif kind == tuple[str, ...]:
        items = value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(item, (str, int)) and not isinstance(item, bool) for item in items):
            return tuple(str(item) for item in items)
    elif kind == Mapping[str, float]:
        if isinstance(value, Mapping) and all(_is_number(number) for number in value.values()):
            return {str(key): float(number) for key, number in value.items()}
    elif kind is float:
        if _is_number(value):
            return float(value)
    elif kind is int:
        if type(value) is int and abs(value) < 2**63:
            return value
    elif type(value) is kind:
        return value
    raise ValueError


def _described(kind: Any) -> str:
    """A type in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) in (UnionType, Union):
        return " or ".join(map(_described, get_args(kind)))
    return _KINDS.get(kind, str(kind))


def _is_number(value: Any) -> bool:
    """A finite one, that a float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
