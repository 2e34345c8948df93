"""Settings of a sweep: grids, lists, names, and parameters that depend on the preset or on the seed."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.core.errors import ConfigError, UnknownNameError
from pipeline_lib.presets import alignment
from pipeline_lib.sweeps.plan import Cell, Setting, cells_of, settings_of

OWN = alignment("shapes", "dpo").train


def resolved(seed: int | None = 7, **parameters: Any) -> dict[str, Any]:
    return Setting("one", {"method": "dpo", **parameters}).resolved("shapes", seed)


def test_a_grid_is_every_combination_and_a_list_comes_after_it() -> None:
    found = settings_of(
        {"method": "dpo", "train": {"flip": 0.5, "rho": 1}},
        {"beta": [250.0, 500], "recipe": ["human", "flip10"]},
        {"own": {"train": {"flip": 0.0}}},
    )
    assert [one.name for one in found] == [
        "beta=250 recipe=human",
        "beta=250 recipe=flip10",
        "beta=500 recipe=human",
        "beta=500 recipe=flip10",
        "own",
    ]
    assert found[1].parameters["recipe"] == "flip10" and found[1].method == "dpo"
    assert found[-1].parameters["train"] == {"flip": 0.0, "rho": 1}, "one by one over the common ones"
    cells = cells_of(found, [3, 1])
    assert [cell.name for cell in cells[4:6]] == ["own, seed 3", "beta=250 recipe=human, seed 1"]


def test_values_relative_to_the_preset_to_the_steps_and_to_the_seed() -> None:
    assert resolved(beta={"times": 2})["beta"] == 2 * OWN.beta
    assert resolved(steps={"times": 0.1})["steps"] == round(0.1 * OWN.steps)
    relative = {"reference_refresh": {"of_steps": 0.25}}
    assert resolved(train=relative)["train"] == {"reference_refresh": OWN.steps // 4}
    assert resolved(train=relative, steps=8)["train"] == {"reference_refresh": 2}
    assert resolved(train=relative, steps={"times": 0.5})["train"] == {"reference_refresh": round(OWN.steps / 8)}
    assert resolved(train={**relative, "steps": 12})["train"]["reference_refresh"] == 3
    along = {"reference_refresh": {"with_steps": 1}, "checkpoint_every": {"with_steps": 2}}
    assert resolved(train=along, steps=OWN.steps)["train"]["checkpoint_every"] == 2 * OWN.checkpoint_every
    half = resolved(method="balanced", train=along, steps={"times": 0.5})["train"]
    assert half["reference_refresh"] == round(alignment("shapes", "balanced").train.reference_refresh / 2) > 0
    assert half["checkpoint_every"] == OWN.checkpoint_every
    recipe = [{"flip": 0.1, "seed": "$seed"}, {"single": "human"}]
    assert resolved(recipe=recipe)["recipe"][0]["seed"] == 7
    assert resolved(None, recipe=recipe)["recipe"] == recipe
    assert Cell(Setting("one", {"method": "dpo", "limit": "$seed"}), 9).parameters("shapes")["limit"] == 9


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="no settings"):
        settings_of({"method": "dpo"})
    with pytest.raises(UnknownNameError, match="'beta'"):
        settings_of({}, {"betta": [1]})
    with pytest.raises(ConfigError, match="Two settings are called beta=1"):
        settings_of({}, {"beta": [1]}, {"beta=1": {"beta": 1.0}})
    with pytest.raises(ConfigError, match="no number for recipe"):
        resolved(recipe={"times": 2})
    with pytest.raises(ConfigError, match="of_steps"):
        resolved(steps={"of_steps": 0.5})
    with pytest.raises(ConfigError, match="with_steps"):
        resolved(steps={"with_steps": 0.5})
    with pytest.raises(ConfigError, match="each once"):
        cells_of(settings_of({}, {"beta": [1]}), [0, 0])
