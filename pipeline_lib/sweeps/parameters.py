"""In what the settings of a sweep differ, and what they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.identity import decides
from pipeline_lib.sweeps.plan import OF_STEPS, SEED, TIMES, short

UNDECIDED = tuple(of.name for of in fields(TrainConfig) if not decides(of))
OWN = ("seed", *UNDECIDED)
"""Of the training settings: the seed is the run's, not the setting's, and the others decide no result."""


def flattened(setting: Mapping[str, Any]) -> dict[str, str]:
    """A setting's method, parameters and training settings by name, as text.

    A parameter that became a training setting of the same name is listed once, with the value that was trained with.
    """
    train = {name: value for name, value in setting["train"].items() if name not in OWN}
    found = {"method": str(setting["method"])}
    for name, value in _leaves(setting["parameters"]):
        if name.rpartition(".")[2] not in (*setting["train"], *UNDECIDED) and name != "method":
            found[name.removeprefix("train.")] = written(value)
    return found | {("objective" if name == "method" else name): written(value) for name, value in train.items()}


def differing(settings: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[dict[str, str]], dict[str, str]]:
    """Names in which the settings differ, every setting's parameters, and those that all share.

    `align`'s parameters come before the training settings. A setting may lack a name.
    """
    each = [flattened(setting) for setting in settings]
    names = list(dict.fromkeys(name for parameters in each for name in parameters))
    trained = {"objective"}.union(*(setting["train"] for setting in settings)) - {"method"}
    names.sort(key=trained.__contains__)
    apart = [name for name in names if len({parameters.get(name) for parameters in each}) > 1]
    shared = {name: each[0][name] for name in names if name not in apart}
    return apart, each, shared


def _leaves(values: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value and name != "recipe" and set(value) not in ({TIMES}, {OF_STEPS}):
            yield from _leaves(value, f"{under}{name}.")
        else:
            yield f"{under}{name}", value


def written(value: Any) -> str:
    """A value as text, a recipe as its steps; nothing is "none"."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value == SEED:
        return "the training seed"
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {written(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        steps = any(isinstance(item, Mapping) for item in value)
        return ("; " if steps else ", ").join(map(written, value)) or "none"
    return short(value) or "none"
