"""Identities of runs: what is in them, and that no field is while it has its default."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.training.launch.spec import TrainSpec, run_digest

CONFIG = TrainConfig(method="adaptive-dpo")
CHANGES: list[dict[str, Any]] = [{"stability": "authors"}, {"margin_offset": "authors"}, {"seed": 1}, {"steps": 1}]


def identity(config: TrainConfig) -> str:
    model = BaseModel(family="sd", repo="org/name")
    spec = TrainSpec(model=model, train=config, encoded="e", labels="l", run_dir="r")
    return run_digest(spec, "weights", "encoded", "labels")


def test_identities_are_those_of_the_runs_that_folders_hold() -> None:
    """A literal, which a field that is added leaves. Defaults may not change: core/test_identity.py."""
    assert identity(CONFIG) == "110c81aa26b6204533ee5b9ccce8f4239a9a338e160a0350f75d56215c04784f"


@pytest.mark.parametrize("change", CHANGES)
def test_another_convention_is_another_run(change: dict[str, Any]) -> None:
    assert identity(replace(CONFIG, **change)) != identity(CONFIG)


def test_when_a_run_checkpoints_is_not_what_it_is() -> None:
    assert identity(replace(CONFIG, checkpoint_every=1, milestones=(1,), sample_every=1)) == identity(CONFIG)
