"""What is in keys: which settings decide nothing, and that a field at its default is in none."""

from __future__ import annotations

from dataclasses import asdict, fields, make_dataclass
from typing import Any

import pytest

from pipeline_lib.core.config import (
    BaseModel,
    EncodeConfig,
    EvaluateConfig,
    IngestConfig,
    JudgeConfig,
    TrainConfig,
)
from pipeline_lib.core.identity import decides, identity, settled
from pipeline_lib.labels.parse import STEPS
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

DEFAULTS: dict[str, dict[str, Any]] = {
    "base": {"revision": None, "vae_repo": None, "vae_revision": None, "mirror": "hub"},
    "ingest": {"split": "train", "limit": None, "models": None, "max_pixels": 64000000, "max_bytes": 32000000},
    "encode": {
        "aspect": "crop",
        "batch_size": 32,
        "mixed_precision": "no",
        "flipped": False,
        "empty_prompt": "inference",
    },
    "train": {
        "adapter": "lora",
        "lora_rank": 8,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "lora_targets": None,
        "beta": 5000.0,
        "steps": 2000,
        "batch_size": 16,
        "gradient_accumulation": 1,
        "learning_rate": 1e-05,
        "schedule": "constant",
        "warmup_steps": 0,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "mixed_precision": "no",
        "gradient_checkpointing": False,
        "compile": False,
        "prompt_dropout": 0.0,
        "flip": 0.0,
        "timestep_range": None,
        "timestep_sampling": "uniform",
        "fixed_draws": 0,
        "reference_refresh": 0,
        "flip_rate": 0.0,
        "ema_decays": (0.9999, 0.5),
        "rho": 15.0,
        "stability": "unscaled",
        "k1": 10.0,
        "reweighting": "linear",
        "margin": "quadratic",
        "margin_offset": "logits",
        "seed": 0,
    },
    "judge": {"timesteps": 8, "seed": 0, "batch_size": 32},
    "evaluate": {
        "num_prompts": None,
        "seeds": (0,),
        "scheduler": "dpmsolver++",
        "steps": 25,
        "guidance": 7.5,
        "resolution": 512,
        "batch_size": 8,
        "mixed_precision": "no",
        "tie_spread": 0.0,
        "gate_average": 0.5,
        "gate_scorer": 0.45,
        "implicit_draws": 10,
        "implicit_seed": 0,
    },
}
"""Not in keys, so that another value of one would be another question under the key of before: it never changes."""


@pytest.mark.parametrize("name", CONFIGS)
def test_defaults_are_those_that_keys_leave_out(name: str) -> None:
    assert {of.name: of.default for of in fields(CONFIGS[name])}.items() >= DEFAULTS[name].items()


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


STEP_DEFAULTS: dict[str, dict[str, Any]] = {
    "filter": {"drop": (), "models": (), "users": (), "splits": (), "margin": {}, "agreement": 0.0, "among": ()},
    "reveal": {"seed": 0},
    "pseudo_label": {"calibrate": "auto", "folds": 5, "seed": 0, "scale": 1.0},
    "oracle": {"seed": 0, "calibrated": False},
    "single": {},
    "vote": {"ties": "human", "weights": {}, "epsilon": {}},
    "aggregate": {"how": "normalised_sum", "seed": 0},
    "soft": {"calibrate": "auto", "folds": 5, "seed": 0, "scale": 1.0},
    "dedpo": {},
    "mix": {},
    "flip": {"seed": 0, "stratify": ""},
    "weight": {"normalise": False},
    "balance": {"at_most": 0, "seed": 0},
    "subsample": {"fraction": 1.0, "pairs": 0, "seed": 0},
    "split": {"folds": 5, "keep": "others", "seed": 0},
}


@pytest.mark.parametrize("name", STEP_DEFAULTS)
def test_a_step_of_a_recipe_at_its_defaults_has_none_in_the_key(name: str) -> None:
    assert identity(STEP_DEFAULTS[name], STEPS[name]) == {}


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
