"""The parent of the trainer: restarts, failures in words, metrics live and reproducible, no orphans."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import TrainingError
from pipeline_lib.core.store import Dataset, open_dataset, verify
from pipeline_lib.training.launch import job
from tests.pipeline_lib.models import tiny

CONFIG = TrainConfig(method="diffusion-dpo", steps=3, batch_size=4, lora_rank=2, beta=100.0)

# Stands in for the trainer: run with the spec's path, as the trainer is.
PROLOGUE = """
import json, pathlib, sys, time
run = pathlib.Path(json.loads(pathlib.Path(sys.argv[1]).read_text())["run_dir"])
def finish():
    (run / "model").mkdir()
    (run / "model/base.json").write_text("{}")
def log(**record):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\\n")
"""


def start(
    tmp_path: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset], script: str, **options: Any
) -> Dataset:
    return job.train(
        str(tmp_path / "store"),
        tiny.base(tmp_path, "v"),
        CONFIG,
        encoded["v"],
        labels["human"],
        tmp_path / "scratch",
        command=(sys.executable, "-c", PROLOGUE + script),
        **options,
    )


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "POLL_SECONDS", 0.01)
    (tmp_path / "tiny").symlink_to(mirror / "tiny")


def test_real_trainer(tmp_path: Path, mirror: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset]) -> None:
    records: list[Mapping[str, Any]] = []
    base, scratch = tiny.base(mirror, "v"), tmp_path / "scratch"
    made = job.train(str(tmp_path), base, CONFIG, encoded["v"], labels["human"], scratch, records.append)
    assert [record["step"] for record in records] == [1, 2, 3]
    assert {shard.path for shard in made.shards} == {
        "metrics.jsonl",
        "model/base.json",
        "model/pytorch_lora_weights.safetensors",
    }
    assert list(scratch.iterdir()) == []
    again = job.train(str(tmp_path), base, CONFIG, encoded["v"], labels["human"], scratch, command=("/bin/false",))
    assert again.digest == made.digest


def test_sharding_reaches_the_trainer(tmp_path: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset]) -> None:
    script = """
log(step=1, sharding=json.loads(pathlib.Path(sys.argv[1]).read_text())["sharding"])
finish()
"""
    records: list[Mapping[str, Any]] = []
    start(tmp_path, encoded, labels, script, on_metrics=records.append, sharding="fsdp")
    assert records == [{"step": 1, "sharding": "fsdp"}]


def test_interrupted_trainer_is_started_again(
    tmp_path: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset]
) -> None:
    script = """
step = len(list(run.glob("seen-*")))
(run / f"seen-{step}").touch()
log(step=step + 1, loss=1.0, seconds=time.time())
if step < 2: sys.exit(75)
finish()
"""
    records: list[Mapping[str, Any]] = []
    dataset = start(tmp_path, encoded, labels, script, on_metrics=records.append)
    assert [record["step"] for record in records] == [1, 2, 3]
    with dataset.open("metrics.jsonl") as file:
        assert [json.loads(line) for line in file] == [{"step": n, "loss": 1.0} for n in (1, 2, 3)]
    assert open_dataset(dataset.uri).digest == dataset.digest


def test_what_a_killed_job_had_read_is_told_again_and_its_files_go(
    tmp_path: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset]
) -> None:
    killed = """
log(step=1), log(step=2, seconds=1.25)
(run / "samples").mkdir()
(run / "samples/step-000001.png").touch()
sys.exit(1)
"""
    with pytest.raises(TrainingError):
        start(tmp_path, encoded, labels, killed)
    (run_dir,) = (tmp_path / "scratch").iterdir()
    # The resumed trainer replaces the file by a shorter one, and repeats a step in other bytes.
    resumed = """
time.sleep(0.1)
(run / "new").write_text(json.dumps({"step": 1}) + "\\n")
(run / "new").rename(run / "metrics.jsonl")
time.sleep(0.1)
log(step=2, seconds=0.5), log(step=3)
finish()
"""
    records: list[Mapping[str, Any]] = []
    images: list[str] = []
    start(
        tmp_path, encoded, labels, resumed, on_metrics=records.append, on_sample=lambda path: images.append(path.name)
    )
    assert [record["step"] for record in records] == [1, 2, 3] and images == ["step-000001.png"]
    run_dir.mkdir()  # as if killed after the commit
    start(tmp_path, encoded, labels, "sys.exit(1)")
    assert not run_dir.exists()


def test_a_model_that_another_machine_has_finished_meanwhile_stays_as_it_is(
    tmp_path: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset]
) -> None:
    theirs: list[Dataset] = []

    def elsewhere(record: Mapping[str, Any]) -> None:
        target = job.model_writer(
            str(tmp_path / "store"), tiny.base(tmp_path, "v"), CONFIG, encoded["v"], labels["human"]
        )
        theirs.append(target.commit([target.write_bytes("metrics.jsonl", b"theirs")]))

    dataset = start(tmp_path, encoded, labels, "log(step=1)\nfinish()", on_metrics=elsewhere)
    assert [dataset] == theirs
    verify(dataset)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_user_error_is_passed_on_in_its_own_words(
    tmp_path: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset]
) -> None:
    script = """
status = {"status": "failed", "error": "LabelError", "problem": "no pairs.", "remedy": "Build the labels."}
(run / "status.json").write_text(json.dumps(status))
sys.exit(2)
"""
    with pytest.raises(TrainingError) as caught:
        start(tmp_path, encoded, labels, script)
    assert (caught.value.problem, caught.value.remedy) == ("LabelError: no pairs.", "Build the labels.")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("raise RuntimeError('of its own')", "with code 1.*RuntimeError: of its own"),
        ("import os; os.abort()", "SIGABRT"),
    ],
)
def test_crash_names_how_it_ended_and_what_was_said(
    tmp_path: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset], script: str, words: str
) -> None:
    with pytest.raises(TrainingError, match=f"(?s){words}"):
        start(tmp_path, encoded, labels, script)


def test_failing_caller_leaves_no_trainer_behind(
    tmp_path: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset]
) -> None:
    script = """
import os, signal
(run / "pid").write_text(str(os.getpid()))
signal.signal(signal.SIGTERM, lambda *_: ((run / "checkpoint").touch(), sys.exit(75)))
log(step=1)
time.sleep(60)
"""

    def cancelled(record: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, encoded, labels, script, on_metrics=cancelled)
    assert time.monotonic() - begun < 30
    (run_dir,) = (tmp_path / "scratch").iterdir()
    assert (run_dir / "checkpoint").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((run_dir / "pid").read_text()), 0)


def test_a_job_that_is_asked_to_stop_checkpoints_and_the_next_one_continues(
    tmp_path: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset]
) -> None:
    script = """
import os, signal
(run / "pid").write_text(str(os.getpid()))
signal.signal(signal.SIGTERM, lambda *_: ((run / "checkpoint").touch(), sys.exit(75)))
log(step=1)
time.sleep(60)
"""
    seen: list[Mapping[str, Any]] = []
    with pytest.raises(job.Stopped):
        start(tmp_path, encoded, labels, script, on_metrics=seen.append, stopping=lambda: bool(seen))
    (run_dir,) = (tmp_path / "scratch").iterdir()
    assert (run_dir / "checkpoint").exists(), "SIGTERM, not SIGKILL"
    with pytest.raises(ProcessLookupError):
        os.kill(int((run_dir / "pid").read_text()), 0)
    with pytest.raises(job.Stopped):
        start(tmp_path, encoded, labels, "(run / 'begun').touch()", stopping=lambda: True)
    assert not (run_dir / "begun").exists()
    verify(start(tmp_path, encoded, labels, "log(step=2); finish()", stopping=lambda: False))
    assert not run_dir.exists()
