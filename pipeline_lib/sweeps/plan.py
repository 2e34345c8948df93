"""What a sweep runs: settings, as a grid or a list of `align`'s flat parameters, each with every training seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pipeline_lib.core.config import require
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.presets import alignment

SEED = "$seed"
"""Anywhere among a setting's parameters: the cell's training seed."""
RELATIVE = TIMES, OF_STEPS, WITH_STEPS = "times", "of_steps", "with_steps"
PARAMETERS = (
    "method",
    "recipe",
    "steps",
    "learning_rate",
    "beta",
    "adapter",
    "source",
    "split",
    "limit",
    "base",
    "train",
)
"""The parameters of `align` that a setting may have. What judges the models is the same for all of a sweep."""
MAX_SETTINGS = 1000
METHOD = "balanced"
"""`align`'s own default."""


def in_keys(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A setting's parameters as they stand in keys: `train` by the name that it had first, so that no key changes."""
    return {"settings" if name == "train" else name: value for name, value in parameters.items()}


@dataclass(frozen=True)
class Setting:
    """One way to align, by its name in tables and charts; `parameters` are `align`'s."""

    name: str
    parameters: Mapping[str, Any]

    @property
    def method(self) -> str:
        """dpo, balanced, dedpo or adaptive."""
        return str(self.parameters.get("method", METHOD))

    @property
    def identity(self) -> dict[str, Any]:
        """The parameters as they stand in keys."""
        return in_keys(self.parameters)

    def resolved(self, preset: str, seed: int | None = None) -> dict[str, Any]:
        """The parameters for a preset, with a training seed where they name it; None leaves `SEED` there.

        `{times: f}` becomes f times the value that the preset has for the method, `{with_steps: f}` the same as far as
        the run is as long as the preset's (half of it where it has half the steps), `{of_steps: f}` that share of the
        run's steps (at least 1).

        Raises:
            ConfigError: `times` of something that the preset has no number for.
            UnknownNameError: no such method.
        """
        given = dict(self.parameters)
        own = alignment(preset, self.method).train

        def relative(name: str, how: str, factor: float) -> Any:
            require(
                name != "steps" or how == TIMES,
                f"{self.name}: steps is {{{how}: {factor}}}.",
                "Give a number, or times.",
            )
            if how == OF_STEPS:
                return max(1, round(steps * factor))
            known: Any = getattr(own, name, None)
            require(
                isinstance(known, int | float) and not isinstance(known, bool),
                f"{self.name}: {name} is {{{how}: {factor}}}, and {preset} has no number for {name}.",
                "Give the value itself.",
            )
            scaled = known * factor * (steps / own.steps if how == WITH_STEPS else 1)
            return round(scaled) if isinstance(known, int) else scaled

        def value(name: str, raw: Any) -> Any:
            if raw == SEED:
                return raw if seed is None else seed
            if isinstance(raw, Mapping) and len(raw) == 1 and (how := next(iter(raw))) in RELATIVE:
                return relative(name, how, raw[how])
            if isinstance(raw, Mapping):
                return {key: value(key, item) for key, item in raw.items()}
            if isinstance(raw, list | tuple):
                return [value(name, item) for item in raw]
            return raw

        asked = given.get("steps") or (given.get("train") or {}).get("steps")
        steps = int(value("steps", asked) or own.steps)
        return {name: value(name, raw) for name, raw in given.items()}


@dataclass(frozen=True)
class Cell:
    """One model of a sweep: a setting and a training seed."""

    setting: Setting
    seed: int

    @property
    def name(self) -> str:
        """`<setting>, seed <seed>`."""
        return f"{self.setting.name}, seed {self.seed}"

    def parameters(self, preset: str) -> dict[str, Any]:
        """The setting's parameters for a preset, with this seed where they name it; see `Setting.resolved`."""
        return self.setting.resolved(preset, self.seed)


def settings_of(
    common: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    listed: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Setting]:
    """The settings of a sweep: every combination of a grid, and those of a list; `common` holds what all share.

    Args:
        grid: parameter -> its values; a combination is called `beta=500 recipe=flip20`.
        listed: name -> parameters; `train` (settings of the training run) are merged with the common ones.

    Raises:
        ConfigError: there is nothing to run, or two settings have one name.
        UnknownNameError: a parameter that `align` does not have.
    """
    named: list[tuple[str, Mapping[str, Any]]] = []
    if grid:
        size = math.prod(map(len, grid.values()))
        require(
            size <= MAX_SETTINGS, f"The grid has {size} settings.", f"Sweep over at most {MAX_SETTINGS} at a time."
        )
        for values in product(*grid.values()):
            chosen = dict(zip(grid, values, strict=True))
            named.append((" ".join(f"{name}={short(item)}" for name, item in chosen.items()), chosen))
    named += list((listed or {}).items())
    require(bool(named), "The sweep has no settings.", "Give a grid, or settings by name.")
    names = [name for name, _ in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"Two settings are called {', '.join(twice)}.", "Give each a name of its own.")
    found = []
    for name, own in named:
        merged = {**(common or {}), **own}
        if "train" in own and (common or {}).get("train"):
            merged["train"] = {**(common or {})["train"], **own["train"]}
        for parameter in merged:
            if parameter not in PARAMETERS:
                raise unknown_name("parameter of a setting", parameter, list(PARAMETERS))
        found.append(Setting(name, merged))
    return found


def cells_of(settings: Sequence[Setting], seeds: Sequence[int]) -> list[Cell]:
    """Every setting with every seed: all settings of the first seed first, so that an unfinished sweep compares."""
    require(
        bool(seeds) and len(set(seeds)) == len(seeds),
        f"seeds are {list(seeds)}.",
        "Give one training seed or more, each once.",
    )
    return [Cell(setting, seed) for seed in seeds for setting in settings]


def short(value: Any) -> str:
    """A parameter's value as part of a name."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{short(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "+".join(short(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
