"""`prefalign` as people type it: the chain without a server, its errors, its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.cli import main

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["--limit", "48", "--num-prompts", "4", "--scorers", "clip", "--method", "dpo", "--evaluate.steps", "2"]


def prefalign(folder: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PIPELINE_STATE": str(folder / "state"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline_lib.cli", *words, "--store", str(folder / "store")]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **more)


def answered(folder: Path, *words: str) -> dict[str, Any]:
    process = prefalign(folder, *words, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_whole_chain_without_a_server_and_again_from_the_store(tmp_path: Path) -> None:
    words = ["align", *SMALL, "--steps", "2"]
    first, second = answered(tmp_path, *words), answered(tmp_path, *words)
    assert [stage["stage"] for stage in first["stages"]][-1] == "evaluate"
    assert any(stage["ran"] for stage in first["stages"]) and not any(stage["ran"] for stage in second["stages"])
    assert [s["datasets"] for s in first["stages"]] == [s["datasets"] for s in second["stages"]]


@pytest.mark.slow
def test_stopped_while_it_trains_it_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    words = ["train", *SMALL, "--steps", "60", "--train.checkpoint_every", "5"]
    whole = answered(tmp_path, *words, "--train.seed", "1", "--json")
    (tmp_path / "cut").mkdir()
    process = prefalign(tmp_path / "cut", *words, "--train.seed", "1", stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("cut/state/scratch/*/checkpoints/step-*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert list(tmp_path.glob("cut/state/scratch/*/checkpoints/step-*")), "the checkpoint stays"
    again = answered(tmp_path / "cut", *words, "--train.seed", "1")
    digests = [[data["digest"] for data in stage["datasets"]] for stage in again["stages"]]
    assert digests == [[data["digest"] for data in stage["datasets"]] for stage in whole["stages"]]


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path) -> None:
    example = ROOT / "docs/examples/align.py"
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 15
    shown = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    assert example.read_text(encoding="utf-8") in shown
    assert example.read_text(encoding="utf-8").partition("\n\n")[2] in (ROOT / "README.md").read_text(encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, example], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "dpo-shapes" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["align", "--train.betta", "5"], 1, "train.beta"),
        (["align", "--preset", "shape"], 1, "'shapes'"),
        (["align", "--limit", "many"], 2, "--limit"),
        (["aline"], 2, "aline"),
        (["store", "describe", "/no/dataset"], 1, "/no/dataset"),
        (["report", "/no/dataset"], 1, "/no/dataset"),
        (["explain", "dedpo52"], 1, "dedpo25"),
        (["explain", "/no/recipe.yaml"], 1, "/no/recipe.yaml"),
    ],
)
def test_errors_are_words_and_exit_codes(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    assert said in capsys.readouterr().err


def test_a_recipe_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "human"]) == 0
    assert "human" in capsys.readouterr().out
