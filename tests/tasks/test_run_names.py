"""A run's name says what runs; a name given by hand stays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prefect.context import FlowRunContext

from flows.train import train_dpo
from tasks.run_names import flow_run_name


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Any:
    def start(name: str = "golden-otter", **parameters: Any) -> str:
        context = SimpleNamespace(flow=train_dpo, flow_run=SimpleNamespace(name=name), parameters=parameters)
        monkeypatch.setattr(FlowRunContext, "get", lambda: context)
        return flow_run_name()

    return start


def test_the_name_holds_flow_preset_and_a_key_of_the_question(named: Any) -> None:
    name = named(preset="sdxl")
    flow, preset, key = name.split(" ")
    assert (flow, preset, len(key)) == ("train-dpo", "sdxl", 6)
    assert named("brave-newt", preset="sdxl", seed=None, store="s3://elsewhere") == name, "the same question"
    assert named(preset="sdxl", seed=1) != name
    assert named(name) == name, "a run that starts again"
    assert named("my first run") == "my first run"


@pytest.mark.parametrize(
    "proposed",
    [
        "wisteria-caterpillar",
        "Licensed-Magpie",
        "Small-Ox",
        "Generic-Vicuña",
        "tau185-iraatan-terminus",
        "alpha-canis-majoris-nebula",
        "xi66-tavela",
        "eta--shift",
    ],
)
def test_names_that_prefect_makes_up_are_replaced(named: Any, proposed: str) -> None:
    assert named(proposed, preset="sdxl") == named(preset="sdxl")


@pytest.mark.parametrize("given", ["Friday", "tau 185", "Licensed-Magpie 2", "sdxl-run-3", "balanced_beta"])
def test_names_that_people_give_stay(named: Any, given: str) -> None:
    assert named(given, preset="sdxl") == given
