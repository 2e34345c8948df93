"""What is in keys: which settings decide nothing, and that a field at its default is in none."""

from __future__ import annotations

from dataclasses import asdict, fields, make_dataclass
from typing import Any

import pytest

from pipeline_lib.config import (
    BaseModel,
    EncodeConfig,
    EvaluateConfig,
    IngestConfig,
    JudgeConfig,
    TrainConfig,
)
from pipeline_lib.identity import decides, identity, settled
from pipeline_lib.labels.recipes import steps_of

CONFIGS: dict[str, Any] = {
    "base": BaseModel(family="sd", repo="org/name"),
    "ingest": IngestConfig(source="shapes://pairs"),
    "encode": EncodeConfig(resolution=64),
    "train": TrainConfig(method="balanced-dpo"),
    "judge": JudgeConfig(),
    "evaluate": EvaluateConfig(prompts="shapes-test"),
}
UNDECIDED = {"train": {"checkpoint_every", "keep_checkpoints", "milestones", "max_skipped_steps", "sample_every"}}
"""All others decide the result, or, as the images at once, round it: the bytes differ."""


@pytest.mark.parametrize("name", CONFIGS)
def test_which_settings_decide(name: str) -> None:
    """That the bytes are equal for others is in training/test_undecided.py."""
    config = CONFIGS[name]
    assert {of.name for of in fields(config) if not decides(of)} == UNDECIDED.get(name, set())
    assert settled(config).keys() == {of.name for of in fields(config)} - UNDECIDED.get(name, set())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", {"family": "sd", "repo": "org/name"}),
        ("ingest", {"source": "shapes://pairs"}),
        ("encode", {"resolution": 64}),
        ("train", {"method": "balanced-dpo"}),
        ("judge", {}),
        ("evaluate", {"prompts": "shapes-test"}),
    ],
)
def test_a_setting_at_its_default_is_in_no_key(name: str, expected: dict[str, Any]) -> None:
    config = CONFIGS[name]
    assert identity(settled(config), type(config)) == expected
    later = make_dataclass("Later", [("later", str, "none")], bases=(type(config),), frozen=True, kw_only=True)
    assert identity(settled(later(**asdict(config))), later) == expected, "a field that was added"
    assert identity(settled(later(**asdict(config), later="some")), later) == {**expected, "later": "some"}


def test_lists_are_tuples_and_what_is_no_setting_stays() -> None:
    values = {"seeds": [0], "guidance": 7.5, "truth": True, "steps": 20}
    assert identity(values, EvaluateConfig) == {"truth": True, "steps": 20}
    assert identity({"ema_decays": [0.9999, 0.5], "milestones": [7]}, TrainConfig) == {}
    assert identity({"ema_decays": [0.5, 0.9999]}, TrainConfig) == {"ema_decays": [0.5, 0.9999]}


def test_steps_of_a_recipe_follow_the_rule() -> None:
    (step,) = steps_of([{"vote": ["human", "clip"]}])[:1]
    assert step.identity().keys() == step.plain().keys()
    given = step.identity()["vote"]
    assert given["voters"] == ["human", "clip"] and given.items() < step.plain()["vote"].items()
