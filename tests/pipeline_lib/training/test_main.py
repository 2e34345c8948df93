"""The program: exit codes, SIGTERM, status file, messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.config import TrainConfig
from pipeline_lib.digest import file_sha256
from pipeline_lib.errors import ConfigError
from pipeline_lib.store import Dataset
from pipeline_lib.training.__main__ import main
from pipeline_lib.training.spec import INTERRUPTED, USER_ERROR, TrainSpec, read_spec, write_spec
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.models import tiny

CONFIG = TrainConfig(method="diffusion-dpo", steps=60, batch_size=4, checkpoint_every=1000, lora_rank=2, beta=100.0)


@pytest.fixture
def spec(mirror: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset], tmp_path: Path) -> TrainSpec:
    return TrainSpec(
        model=tiny.base(mirror, "v"),
        train=CONFIG,
        encoded=encoded["v"].uri,
        labels=labels["human"].uri,
        run_dir=str(tmp_path / "run"),
    )


def start(spec: TrainSpec) -> subprocess.Popen[str]:
    path = Path(spec.run_dir, "spec.json")
    write_spec(path, spec)
    command = [sys.executable, "-m", "pipeline_lib.training", str(path)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def status(spec: TrainSpec) -> dict[str, str]:
    return json.loads(Path(spec.run_dir, "status.json").read_text())


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
    metrics = Path(spec.run_dir, "metrics.jsonl")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, errors
    assert status(spec) == {"status": "interrupted"}
    (checkpoint,) = Path(spec.run_dir, "checkpoints").iterdir()
    done = len(metrics.read_text().splitlines())
    assert checkpoint.name == f"step-{done:06d}"
    assert 3 <= done < CONFIG.steps

    assert train(spec) == "done"
    whole = replace(spec, run_dir=str(tmp_path / "whole"))
    train(whole)
    name = "model/pytorch_lora_weights.safetensors"
    assert file_sha256(Path(spec.run_dir, name)) == file_sha256(Path(whole.run_dir, name))
    assert len(metrics.read_text().splitlines()) == CONFIG.steps


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
