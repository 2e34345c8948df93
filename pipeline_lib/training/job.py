"""A training job: the trainer in a process of its own, its metrics followed live, its result published as a dataset.

The process boundary gives GPU memory back for certain, survives nothing it should not (it dies with its parent), and
lets SIGTERM mean "checkpoint and stop": the trainer exits with `INTERRUPTED`, and the next job of the same question
continues from that checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from pipeline_lib.config import BaseModel, TrainConfig
from pipeline_lib.errors import TrainingError
from pipeline_lib.models.identity import base_identity
from pipeline_lib.store import Dataset, DatasetWriter, writer
from pipeline_lib.training.spec import INTERRUPTED, USER_ERROR, TrainSpec, write_spec

VERSION = 1
POLL_SECONDS = 0.5
GRACE_SECONDS = 60.0
MAX_RESTARTS = 20
TIMING_FIELDS = ("seconds", "pairs_per_second")
"""Left out of the published metrics: the same job must give the same bytes."""

logger = logging.getLogger(__name__)


def model_writer(
    store: str, model: BaseModel, config: TrainConfig, encoded: Dataset, labels: Dataset
) -> DatasetWriter:
    """The dataset that the trained model will be; its key identifies the run before it starts."""
    return writer(store, "model", VERSION, {"base": base_identity(model), "train": asdict(config)}, [encoded, labels])


def train(
    store: str,
    model: BaseModel,
    config: TrainConfig,
    encoded: Dataset,
    labels: Dataset,
    scratch: Path,
    on_metrics: Callable[[Mapping[str, Any]], None] = lambda record: None,
    command: Sequence[str] = (sys.executable, "-m", "pipeline_lib.training"),
) -> Dataset:
    """Train, or continue training, and publish the result.

    Args:
        scratch: local folder for checkpoints; the job uses `<scratch>/<key>` and removes it when done.
        on_metrics: called with every record the trainer logs (`step`, `loss`, ...).
        command: how the trainer is started; the specification's path is appended.

    Returns:
        A dataset with `model/` (LoRA or UNet files and `base.json`) and `metrics.jsonl`.

    Raises:
        TrainingError: the trainer failed; the message holds its own words and the log's path.
    """
    target = model_writer(store, model, config, encoded, labels)
    if done := target.finished():
        return done
    run_dir = scratch / target.key
    run_dir.mkdir(parents=True, exist_ok=True)
    spec = TrainSpec(model=model, train=config, encoded=encoded.uri, labels=labels.uri, run_dir=str(run_dir))
    with _exclusive(run_dir) as lock:
        if done := target.finished():
            return done
        write_spec(run_dir / "spec.json", spec)
        for _ in range(MAX_RESTARTS):
            code = _run([*command, str(run_dir / "spec.json")], run_dir, lock, on_metrics)
            if code != INTERRUPTED:
                break
            logger.info("the trainer was interrupted after a checkpoint; starting it again")
        if code != 0:
            raise _failure(code, run_dir)
        shards = target.write_folder("model", run_dir / "model")
        shards.append(target.write_bytes("metrics.jsonl", _reproducible_metrics(run_dir / "metrics.jsonl")))
        dataset = target.commit(shards)
        shutil.rmtree(run_dir)
    return dataset


@contextmanager
def _exclusive(run_dir: Path) -> Iterator[IO[str]]:
    """Hold the run folder's lock; the trainer inherits it, so even an orphaned trainer keeps others out."""
    with (run_dir / "lock").open("w") as lock:
        deadline = time.monotonic() + GRACE_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise TrainingError(
                        f"Another process is training in {run_dir}.",
                        "Wait for it to end, or stop it, and run this again: it continues from the checkpoint.",
                    ) from error
                time.sleep(POLL_SECONDS)
        yield lock


def _run(command: Sequence[str], run_dir: Path, lock: IO[str], on_metrics: Callable[[Mapping[str, Any]], None]) -> int:
    """Start the trainer, follow its metrics, return its exit code; on any exception here, stop its process group."""
    metrics = run_dir / "metrics.jsonl"
    position = metrics.stat().st_size if metrics.exists() else 0
    with (run_dir / "trainer.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=[lock.fileno()]
        )
    try:
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            position = _follow(metrics, position, on_metrics)
        _follow(metrics, position, on_metrics)
        return process.returncode
    finally:
        _stop_group(process)


def _follow(metrics: Path, position: int, on_metrics: Callable[[Mapping[str, Any]], None]) -> int:
    """Report the complete lines written since `position`; a resumed trainer may have cut the file back."""
    if not metrics.exists():
        return position
    with metrics.open("rb") as file:
        file.seek(min(position, metrics.stat().st_size))
        for line in file:
            if not line.endswith(b"\n"):
                return file.tell() - len(line)
            on_metrics(json.loads(line))
        return file.tell()


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM (the trainer checkpoints), then SIGKILL, to everything the trainer started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            logger.warning("the trainer did not stop within %.0f s of SIGTERM", GRACE_SECONDS)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _failure(code: int, run_dir: Path) -> TrainingError:
    log = run_dir / "trainer.log"
    if code == USER_ERROR:
        status = json.loads((run_dir / "status.json").read_text())
        return TrainingError(f"{status['error']}: {status['problem']}", status["remedy"])
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    return TrainingError(
        f"The trainer ended {how}. The end of {log}:\n{tail}",
        "Mend the cause and run the same flow again: it continues from the last checkpoint.",
    )


def _reproducible_metrics(path: Path) -> bytes:
    records = (json.loads(line) for line in path.read_text().splitlines())
    kept = ({k: v for k, v in record.items() if k not in TIMING_FIELDS} for record in records)
    return "".join(json.dumps(record) + "\n" for record in kept).encode()
