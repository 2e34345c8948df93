"""The program: exit codes, SIGTERM, status file, messages."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.training.__main__ import main
from pipeline_lib.training.launch.spec import INTERRUPTED, USER_ERROR, TrainSpec, read_spec, write_spec
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.training.runs import interrupt, records, saved, start, status, wait_for_steps, weights

CONFIG = TrainConfig(method="diffusion-dpo", steps=60, batch_size=4, checkpoint_every=1000, lora_rank=2, beta=100.0)


@pytest.fixture
def spec(new_run: Callable[..., TrainSpec]) -> TrainSpec:
    return new_run(CONFIG)


def test_spec_survives_the_file(spec: TrainSpec, tmp_path: Path) -> None:
    write_spec(tmp_path / "spec.json", spec)
    assert read_spec(tmp_path / "spec.json") == spec


def test_spec_with_an_unknown_field_suggests_the_nearest(spec: TrainSpec, tmp_path: Path) -> None:
    write_spec(tmp_path / "spec.json", spec)
    raw = json.loads((tmp_path / "spec.json").read_text())
    raw["train"]["learning_rates"] = 1
    (tmp_path / "spec.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="learning_rate"):
        read_spec(tmp_path / "spec.json")
    with pytest.raises(ConfigError, match=r"absent\.json"):
        read_spec(tmp_path / "absent.json")


def test_sigterm_checkpoints_and_the_next_start_ends_in_the_same_bytes(spec: TrainSpec, tmp_path: Path) -> None:
    process = start(spec)
    wait_for_steps(spec, 3, process)
    said = interrupt(process)
    assert process.returncode == INTERRUPTED, said
    assert status(spec) == {"status": "interrupted"}
    done = len(records(spec))
    assert saved(spec) == [f"step-{done:06d}"]
    assert 3 <= done < CONFIG.steps

    assert train(spec) == "done"
    whole = replace(spec, run_dir=str(tmp_path / "whole"))
    train(whole)
    assert weights(spec) == weights(whole)
    assert len(records(spec)) == CONFIG.steps


def test_user_error_is_two_lines_and_exit_code_2(spec: TrainSpec, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(spec.run_dir, "spec.json")
    write_spec(path, replace(spec, train=replace(CONFIG, method="dedpo")))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert main([str(path)]) == USER_ERROR
    finally:
        signal.signal(signal.SIGTERM, handler)
    problem, remedy = capsys.readouterr().err.strip().splitlines()
    assert problem.startswith("LabelError: dedpo needs")
    assert remedy.startswith("-> Build the labels with recipe 'dedpo25'")
    assert (status(spec)["status"], status(spec)["error"]) == ("failed", "LabelError")
    assert status(spec)["remedy"] == remedy.removeprefix("-> ")


def test_a_run_folder_that_cannot_be_used_is_two_lines(
    spec: TrainSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "spec.json"
    write_spec(path, replace(spec, run_dir=str(tmp_path / "file" / "run")))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert main([str(path)]) == USER_ERROR
    finally:
        signal.signal(signal.SIGTERM, handler)
    problem, remedy = capsys.readouterr().err.strip().splitlines()
    assert problem.startswith(f"ConfigError: The run folder {tmp_path / 'file' / 'run'} cannot be used")
    assert remedy == "-> Name a folder that this user may write to."
