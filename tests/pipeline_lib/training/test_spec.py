"""Identities of runs: what is in them, and that a field which came later is not while it has its default."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.config import BaseModel, TrainConfig, training_question
from pipeline_lib.digest import digest
from pipeline_lib.store import Dataset
from pipeline_lib.training.job import model_writer
from pipeline_lib.training.spec import TrainSpec, run_digest
from tests.pipeline_lib.models import tiny

CONFIG = TrainConfig(method="adaptive-dpo")
CHANGES: list[dict[str, Any]] = [{"stability": "authors"}, {"margin_offset": "authors"}]


def identity(config: TrainConfig) -> str:
    model = BaseModel(family="sd", repo="org/name")
    spec = TrainSpec(model=model, train=config, encoded="e", labels="l", run_dir="r")
    return run_digest(spec, "encoded", "labels")


def test_identities_are_those_of_the_runs_that_stores_hold() -> None:
    """Literals: a field of TrainConfig that is added must leave them, and belongs to the list in config.py."""
    assert identity(CONFIG) == "1b42ed8728f49c6a2475fe31e292aee82ba98ec3d55f468a90e38a12a4c5c704"
    assert digest(training_question(CONFIG)) == "8c38a28a264ab26f1f9b773ee7ae080823c69b9418afc3ad0348cb23c95a280c"


@pytest.mark.parametrize("change", CHANGES)
def test_another_convention_is_another_run(
    change: dict[str, Any], encoded: dict[str, Dataset], labels: dict[str, Dataset], mirror: Path
) -> None:
    changed = replace(CONFIG, **change)
    assert identity(changed) != identity(CONFIG)
    before, after = (
        model_writer("store", tiny.base(mirror, "v"), config, encoded["v"], labels["human"])
        for config in (CONFIG, changed)
    )
    assert before.key != after.key
    assert after.config["train"] == {**before.config["train"], **change}


def test_all_other_fields_are_in_the_question() -> None:
    assert training_question(CONFIG).keys() == asdict(CONFIG).keys() - {"stability", "margin_offset"}
