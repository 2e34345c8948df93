"""A base of a kind that is not known here ends every flow before its first stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.align import align
from flows.encode import encode
from flows.evaluate import evaluate
from flows.register import register
from flows.sweep import base_versions
from flows.train import train_dpo
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.presets import preset
from pipeline_lib.shapes import assets_dir
from tasks.base import checked_base
from tasks.sweep import Ready, check_sweep


def folder(out: Path, file: str, **fields: Any) -> str:
    """The built-in world's base with other fields in one of its configurations."""
    copy = out / "theirs"
    shutil.copytree(assets_dir() / "hub/shapes/base", copy)
    path = copy / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return str(copy)


FLOWS: dict[str, Callable[..., Any]] = {
    "align": align.fn,
    "train": train_dpo.fn,
    "encode": encode.fn,
    "evaluate": evaluate.fn,
    "register": register.fn,
}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(
    ("file", "fields", "words"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler"),
        ("vae/config.json", {"shift_factor": 0.0609}, "shift_factor"),
        ("unet/config.json", {"attention_type": "gated"}, "attention_type"),
    ],
)
def test_it_ends_the_flow_before_any_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: str, file: str, fields: dict[str, Any], words: str
) -> None:
    """Called as plain functions, without a Prefect API: any stage would need one."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    base = folder(tmp_path, file, **fields)
    with pytest.raises(ConfigError, match=rf"(?s){Path(file).name}: .*{words}"):
        FLOWS[flow]("shapes", base=base, store=str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_it_ends_a_sweep_before_any_stage(tmp_path: Path) -> None:
    base = folder(tmp_path, "scheduler/scheduler_config.json", prediction_type="sample")
    asked: dict[str, Any] = {
        "settings": {"own": {}, "theirs": {"base": base}},
        "grid": None,
        "common": {"method": "dpo"},
    }
    asked |= {"seeds": [0, 1], "reference": None, "measures": None}
    chosen = preset("shapes")
    cells: list[Ready] = check_sweep("shapes", chosen.evaluate, chosen.scorers, None, asked)
    with pytest.raises(ConfigError, match="prediction_type is 'sample'"):
        base_versions("shapes", cells)


def test_timesteps_that_the_base_has_not_end_it_too(tmp_path: Path) -> None:
    base = folder(tmp_path, "scheduler/scheduler_config.json", num_train_timesteps=500)
    assert checked_base("shapes", base, steps=50) == base
    with pytest.raises(ConfigError, match="600 sampling steps are more than the 500 timesteps"):
        evaluate.fn("shapes", base=base, steps=600)
    with pytest.raises(ConfigError, match=r"(?s)timestep_range is \[100, 700\].*within 0\.\.499"):
        align.fn("shapes", "dpo", base=base, train={"timestep_range": [100, 700]})
    assert checked_base("shapes", None) is None
