"""A training job: the trainer in a process of its own, its metrics followed live, its result published as a dataset.

The process boundary gives GPU memory back for certain, and lets SIGTERM mean "checkpoint and stop": the trainer ends
as interrupted, and the next job of the same question continues from that checkpoint. It is sent SIGTERM when this
process dies, however that happens, and no other trainer starts in its run folder before it has let go of it.

Signals reach a process's main thread only. A job in another thread is asked to stop by `stopping`.
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
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.disk import is_full, no_space, space
from pipeline_lib.core.errors import DiskFullError, TrainingError
from pipeline_lib.core.identity import identity, settled
from pipeline_lib.core.json_files import read_json
from pipeline_lib.core.store import Dataset, DatasetWriter, writer
from pipeline_lib.data.same_images import other_images
from pipeline_lib.models.identity import base_identity
from pipeline_lib.models.noise import check_range
from pipeline_lib.models.origin import check_latents
from pipeline_lib.training.launch.launcher import environment, launcher, process_count, visible_gpus
from pipeline_lib.training.launch.nodes import machines
from pipeline_lib.training.launch.publish import begin, publish_model, publish_samples, tell_missing
from pipeline_lib.training.launch.spec import (
    INTERRUPTED,
    LAUNCH,
    METRICS,
    SAMPLES,
    SPEC,
    STATUS,
    TRAINERS,
    USER_ERROR,
    TrainSpec,
    write_spec,
)

VERSION = 1
POLL_SECONDS = 0.5
GRACE_SECONDS = 60.0
MAX_RESTARTS = 20

_LATE = ("stability", "margin_offset")
"""Fields that were in no key at their default when all others were in every one."""

logger = logging.getLogger(__name__)


class Stopped(KeyboardInterrupt):
    """A job was asked to stop, as if by a signal to its thread: nobody's error, and nobody shall go on after it."""


def never() -> bool:
    """Nobody asks to stop."""
    return False


def model_writer(
    store: str, model: BaseModel, config: TrainConfig, encoded: Dataset, labels: Dataset
) -> DatasetWriter:
    """The dataset that the trained model will be; its key identifies the run before it starts.

    Raises:
        ConfigError: latents by other encoders than the base's; or the base is of a kind that is not known here, or has
            not the timesteps that are to be trained.
    """
    from pipeline_lib.models.supported import check_supported  # loads torch and diffusers

    check_range(check_supported(model), config.timestep_range)
    check_latents(encoded, model)
    base = base_identity(model)
    every = {k: v for k, v in asdict(config).items() if k not in _LATE or v != getattr(TrainConfig, k)}
    return writer(
        store,
        "model",
        VERSION,
        {"base": base, "train": settled(config)},
        [encoded, labels],
        identity={"base": identity(base, BaseModel), "train": identity(settled(config), TrainConfig)},
        formerly={"base": base, "train": every},
        modules=[__name__, "pipeline_lib.training.__main__"],
    )


def train(
    store: str,
    model: BaseModel,
    config: TrainConfig,
    encoded: Dataset,
    labels: Dataset,
    scratch: Path,
    on_metrics: Callable[[Mapping[str, Any]], None] = lambda record: None,
    on_sample: Callable[[Path], None] = lambda image: None,
    processes: int | None = None,
    sharding: Literal["none", "fsdp"] = "none",
    command: Sequence[str] | None = None,
    stopping: Callable[[], bool] = never,
) -> Dataset:
    """Train, or continue training, and publish the result.

    Args:
        scratch: local folder for checkpoints; the job uses `<scratch>/<key>` and removes it when done.
        on_metrics: called once with every record the trainer logs (`step`, `loss`, ...), from step 1 on also where an
            earlier job was killed: what that one had read may never have arrived.
        on_sample: called once with every grid of sample images, `step-<step>.png`; earlier jobs' too.
        processes: trainer processes over all machines (machines.py); None starts one per GPU, as far as they can
            share a step's forward passes.
        sharding: "fsdp" spreads weights and optimizer state of a full fine-tuning over the processes.
        command: starts something else as the trainer; the specification's path is appended.
        stopping: asked twice a second; once it is true the trainer is stopped, with a checkpoint.

    Returns:
        A dataset with `model/` (LoRA or UNet files and `base.json`) and `metrics.jsonl`; its samples are another one
        (publish.py).

    Raises:
        TrainingError: latents and labels are of different pictures; or the trainer failed, whose words and log the
            message then holds.
        DiskFullError: no space for checkpoints, or in the store.
        Stopped: `stopping` said so.
    """
    if problem := other_images(encoded, labels):
        raise TrainingError(
            f"The latents {encoded.uri} and the labels {labels.uri} are not of the same pairs: {problem}.",
            "Give those of one ingest.",
        )
    target = model_writer(store, model, config, encoded, labels)
    run_dir = scratch / target.key
    if (done := target.finished()) and not run_dir.exists():
        tell_missing(done, config)
        return done
    with space(scratch):
        run_dir.mkdir(parents=True, exist_ok=True)
    spec = TrainSpec(
        model=model,
        weights=target.config["base"]["weights"],
        train=config,
        encoded=encoded.uri,
        labels=labels.uri,
        run_dir=str(run_dir),
        sharding=sharding,
    )
    place = machines()
    count = processes or process_count(config.gradient_accumulation, visible_gpus(), place.count)
    start = command or launcher(count, place)
    elsewhere = count if place.count > 1 else 0
    heard = _each_once(on_metrics, on_sample)
    started = Started(start, environment(count), run_dir, *heard, elsewhere, stopping)
    with space(run_dir), _exclusive(run_dir / "lock", stopping):
        done = target.finished()
        if done is None:
            begin(target, run_dir)
            write_spec(run_dir / SPEC, spec)
            _until_done(started)
            # Another machine, whose GPU may round otherwise, may have finished it: its files stay as they are.
            done = target.finished() or publish_model(target, run_dir)
        publish_samples(done, config, run_dir)
        # Also what a job left that was killed after its commit; another one that waited for the lock may do the same.
        shutil.rmtree(run_dir, ignore_errors=True)
    return done


@dataclass(frozen=True)
class Started:
    """How one trainer is started, and who hears of it; `announced` processes, where other machines start some."""

    command: Sequence[str]
    environment: Mapping[str, str]
    run_dir: Path
    on_metrics: Callable[[Mapping[str, Any]], None]
    on_sample: Callable[[Path], None]
    announced: int = 0
    stopping: Callable[[], bool] = never


def read_metrics(model: Dataset) -> list[dict[str, Any]]:
    """The training curve that was published with a model."""
    with model.open(METRICS) as file:
        return [json.loads(line) for line in file]


def _each_once(
    on_metrics: Callable[[Mapping[str, Any]], None], on_sample: Callable[[Path], None]
) -> tuple[Callable[[Mapping[str, Any]], None], Callable[[Path], None]]:
    """The same without repetitions: a trainer that is started again repeats the steps since its checkpoint."""
    step, shown = 0, set[Path]()

    def metrics(record: Mapping[str, Any]) -> None:
        nonlocal step
        if record["step"] > step:
            step = record["step"]
            on_metrics(record)

    def sample(image: Path) -> None:
        if image not in shown:
            shown.add(image)
            on_sample(image)

    return metrics, sample


def _until_done(started: Started) -> None:
    """Start the trainer, again after each interruption that left it further than before; raises TrainingError."""
    for _ in range(MAX_RESTARTS):
        before = _progress(started.run_dir)
        code = _run(started)
        status = _status(started.run_dir).get("status")
        if code == 0:
            return
        interrupted = code == INTERRUPTED or status == "interrupted"
        killed = code != USER_ERROR and status != "failed" and _progress(started.run_dir) != before
        if not interrupted and not killed:
            break
        logger.info("the trainer was interrupted after a checkpoint; starting it again")
    raise _failure(code, started.run_dir)


def _progress(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").glob("step-*"))


def _status(run_dir: Path) -> dict[str, str]:
    """What the trainer last said of itself: launchers hide exit codes."""
    path = run_dir / STATUS
    if not path.exists():
        return {}
    found = read_json(path, TrainingError, f"Look at {run_dir / 'trainer.log'}, and run the same again.")
    return {name: str(value) for name, value in found.items()}


@contextmanager
def _exclusive(path: Path, stopping: Callable[[], bool]) -> Iterator[None]:
    """Hold a lock file alone; raises TrainingError when another process keeps it."""
    with path.open("w") as lock:
        if not acquired(lock, GRACE_SECONDS, stopping):
            raise TrainingError(
                f"Another process is training in {path.parent}.",
                "Wait for it to end, or stop it, and run this again: it continues from the checkpoint.",
            )
        yield


def acquired(lock: IO[str], seconds: float | None, stopping: Callable[[], bool] = never) -> bool:
    """Lock an open file, once whoever has it lets go; False when that takes longer than `seconds` (None: for ever).

    Raises:
        Stopped: `stopping` said so meanwhile.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    while not _free(lock):
        _heed(stopping)
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _heed(stopping: Callable[[], bool]) -> None:
    if stopping():
        raise Stopped("asked to stop")


def _free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _run(started: Started) -> int:
    """Start the trainer, follow it, return its exit code; on any exception here, stop all it started."""
    run_dir = started.run_dir
    _heed(started.stopping)
    with _exclusive(
        run_dir / TRAINERS, started.stopping
    ):  # one that lost its parent may still be writing its checkpoint
        (run_dir / STATUS).unlink(missing_ok=True)
    place = (0, 0)
    tether = [sys.executable, "-m", "pipeline_lib.training.launch.tether", str(os.getpid())]
    command = [*tether, *started.command, str(run_dir / SPEC)]
    with (run_dir / "trainer.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=started.environment
        )
    try:
        if started.announced:
            _announce(run_dir, started.announced)
        ended = False
        while not ended:
            time.sleep(POLL_SECONDS)
            _heed(started.stopping)
            ended = process.poll() is not None  # before the last look at its files
            place = _follow(run_dir / METRICS, place, started.on_metrics)
            for image in sorted((run_dir / SAMPLES).glob("step-*.png")):
                started.on_sample(image)
        return process.returncode
    finally:
        _stop_group(process, run_dir / TRAINERS)
        (run_dir / LAUNCH).unlink(missing_ok=True)


def _announce(run_dir: Path, processes: int) -> None:
    """Have the other machines start their share (join.py); withdrawn when the trainer has ended here."""
    scratch = run_dir / f".{LAUNCH}.tmp"
    scratch.write_text(json.dumps({"id": uuid.uuid4().hex, "processes": processes}))
    scratch.rename(run_dir / LAUNCH)


def _follow(metrics: Path, place: tuple[int, int], on_metrics: Callable[[Mapping[str, Any]], None]) -> tuple[int, int]:
    """Report the complete lines since `place` (inode, offset): a resumed trainer puts a shorter file in its place."""
    if not metrics.exists():
        return place
    with metrics.open("rb") as file:
        inode = os.fstat(file.fileno()).st_ino
        file.seek(place[1] if inode == place[0] else 0)
        for line in file:
            if not line.endswith(b"\n"):
                return inode, file.tell() - len(line)
            on_metrics(json.loads(line))
        return inode, file.tell()


def _stop_group(process: subprocess.Popen[bytes], trainers: Path) -> None:
    """SIGTERM (the trainers checkpoint), then SIGKILL, to everything that was started.

    A launcher ends before the trainers it started; these hold their lock until they have written what they must.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    with suppress(ProcessLookupError), trainers.open("w") as lock:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        while process.poll() is None or not _free(lock):
            if time.monotonic() > deadline:
                logger.warning("the trainer did not stop within %.0f s of SIGTERM", GRACE_SECONDS)
                break
            time.sleep(min(POLL_SECONDS, 0.1))
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _failure(code: int, run_dir: Path) -> TrainingError | DiskFullError:
    log = run_dir / "trainer.log"
    status = _status(run_dir)
    if status.get("error") == DiskFullError.__name__:
        return DiskFullError(status["problem"], status["remedy"])
    if status.get("status") == "failed":
        return TrainingError(f"{status['error']}: {status['problem']}", status["remedy"])
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    if not tail and is_full(run_dir):  # there was no room for words
        return no_space(run_dir)
    return TrainingError(
        f"The trainer ended {how}. The end of {log}:\n{tail}",
        "Mend the cause and run the same flow again: it continues from the last checkpoint.",
    )
