"""What a sweep's report lists of its settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.identity import settled
from pipeline_lib.sweeps.parameters import flattened

UNDECIDED = {
    "checkpoint_every": 10,
    "milestones": [1],
    "sample_every": 5,
    "max_skipped_steps": 0,
    "keep_checkpoints": 9,
}


@pytest.mark.parametrize("recorded", [settled, asdict], ids=["today", "before keys left them out"])
def test_settings_that_decide_nothing_are_not_listed(recorded: Any) -> None:
    train = recorded(TrainConfig(method="diffusion-dpo", beta=7.0))
    setting = {
        "method": "dpo",
        "train": train,
        "parameters": {"beta": 7.0, "limit": 3, "train": {**UNDECIDED, "flip": 0.0}},
    }
    found = flattened(setting)
    assert not {*UNDECIDED, "seed"} & {*found}
    assert (found["beta"], found["limit"], found["flip"]) == ("7", "3", "0")
