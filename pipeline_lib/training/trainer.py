"""The training loop: pairs in, one aligned UNet or LoRA out. Knows files only; no orchestrator, no tracker."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator

from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import open_dataset
from pipeline_lib.models.identity import base_identity
from pipeline_lib.models.origin import check_latents
from pipeline_lib.training import checkpoints, metrics, movement, sharding
from pipeline_lib.training.change import projected, relative_change
from pipeline_lib.training.divergence import diverged, finite, last_finite
from pipeline_lib.training.launch.spec import METRICS, TrainSpec, run_digest
from pipeline_lib.training.methods import check_config, check_sharding
from pipeline_lib.training.policy import save_policy
from pipeline_lib.training.run import CACHE, Run, build, capture, restore
from pipeline_lib.training.samples import paint
from pipeline_lib.training.step import fill_cache, optimizer_step

CHECKPOINTS = "checkpoints"
MODEL = "model"

logger = logging.getLogger(__name__)

Outcome = Literal["done", "interrupted"]


def train(spec: TrainSpec, stopping: Callable[[], bool] = lambda: False) -> Outcome:
    """Run a training job to its end, or until `stopping()`; starts from the newest checkpoint in `spec.run_dir`.

    Writes `metrics.jsonl`, `checkpoints/`, `samples/` where asked for, and at the end `model/`. On a CPU the result
    depends only on model, configuration and data, bit for bit.

    Raises:
        ConfigError, LabelError, SchemaError: before the first step, for settings or data that cannot be trained on.
        HubError, CheckpointError: the base model or a checkpoint cannot be read, or a file not written.
        TrainingDivergedError: loss or gradient stayed non-finite for more than `max_skipped_steps` steps.
    """
    config, folder = spec.train, Path(spec.run_dir)
    if (folder / MODEL).is_dir():
        kept = checkpoints.steps(folder / CHECKPOINTS)
        if missing := sorted({step for step in config.milestones if step < config.steps} - kept):
            logger.warning(
                "%s is trained: there are no checkpoints of the steps %s, which are kept while a model trains. "
                "To have them train in another run_dir; the model will be the same.",
                folder / MODEL,
                ", ".join(map(str, missing)),
            )
        return "done"
    method = check_config(config)
    if spec.sharding != "none":
        check_sharding(config)
    encoded, labels = open_dataset(spec.encoded), open_dataset(spec.labels)
    check_latents(encoded, spec.model)
    weights = base_identity(spec.model)["weights"]
    identity = run_digest(spec, weights, encoded.digest, labels.digest)
    run = build(spec, method, encoded, labels, identity)
    _check_base(spec, weights)
    if run.cache and _anywhere(run.accelerator, not fill_cache(run, stopping)):
        return "interrupted"
    if found := checkpoints.latest(folder / CHECKPOINTS, identity):
        restore(run, found)
    if run.accelerator.is_main_process:
        metrics.truncate(folder / METRICS, run.step)
    outcome = _loop(run, spec, identity, stopping)
    run.accelerator.wait_for_everyone()
    result = sharding.unsharded(run.policy, run.accelerator.is_main_process) if outcome == "done" else None
    if result and run.accelerator.is_main_process:
        scratch = folder / f".{MODEL}.tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        with checkpoints.writing(folder / MODEL):
            save_policy(result, spec.model, config, scratch)
            scratch.rename(folder / MODEL)
        shutil.rmtree(folder / CACHE, ignore_errors=True)
    run.accelerator.wait_for_everyone()
    return outcome


def _loop(run: Run, spec: TrainSpec, identity: str, stopping: Callable[[], bool]) -> Outcome:
    config, accelerator, folder = run.config, run.accelerator, Path(spec.run_dir)
    started, saved = time.monotonic(), run.step
    last: Mapping[str, float] = {}

    def stop() -> bool:
        return _anywhere(accelerator, stopping())

    def save() -> None:
        nonlocal saved
        # While steps are being skipped, the newest checkpoint stays one from before.
        if run.skipped_in_a_row or saved == run.step:
            return
        _check_weights(run, folder, last)
        state = capture(run, identity) if accelerator.is_main_process or run.policy.sharded else None
        if state and accelerator.is_main_process:
            kept = checkpoints.Kept(config.keep_checkpoints, config.milestones)
            checkpoints.save(folder / CHECKPOINTS, state, kept)
        accelerator.wait_for_everyone()
        saved = run.step

    with _log(folder / METRICS, accelerator) as write:
        while run.step < config.steps:
            begun = time.monotonic()
            result = optimizer_step(run, stop)
            if result is None:
                save()
                return "interrupted"
            now = time.monotonic()
            timing = {"pairs_per_second": run.pairs_per_step / (now - begun), "seconds": now - started}
            memory = metrics.memory_mb(accelerator.device)
            write({"step": run.step, **result, **timing, "memory_mb": memory, **_movement(run)})
            last = last_finite(result, run.step, last)
            if run.skipped_in_a_row > config.max_skipped_steps:
                what = f"{run.skipped_in_a_row} steps in a row have no finite loss and gradient"
                raise diverged(run.step, what, _local_weights(run), last, checkpoints.newest(folder / CHECKPOINTS))
            if config.sample_every and run.step % config.sample_every == 0:
                paint(run, spec)
            if run.step == config.steps:
                break
            interrupted = stop()
            if interrupted or run.step % config.checkpoint_every == 0 or run.step in config.milestones:
                save()
            if interrupted:
                return "interrupted"
    _check_weights(run, folder, last)
    return "done"


@contextmanager
def _log(path: Path, accelerator: Accelerator) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that appends a line to the metrics, on the main process; elsewhere it does nothing."""
    if not accelerator.is_main_process:
        yield lambda record: None
        return
    with path.open("ab", buffering=0) as file:  # a line that could not be written must not be tried again on closing

        def write(record: Mapping[str, float]) -> None:
            with checkpoints.writing(path):
                file.write(metrics.line(record))

        yield write


def _movement(run: Run) -> dict[str, float]:
    """How far the weights are from the base, when that is due; warns of a run that will not move them."""
    config = run.config
    if not movement.due(config, run.step):
        return {}
    change = relative_change(run.policy, run.original)
    found = {movement.CHANGE: change}
    if run.step == movement.FIRST_LOOK:
        found[movement.PROJECTED] = projected(config, change, run.step)
    if run.accelerator.is_main_process and (words := movement.warning(asdict(config), found)):
        logger.warning(words)
    return found


def _check_weights(run: Run, folder: Path, last: Mapping[str, float]) -> None:
    """A loss can be finite and the update after it not."""
    weights = _local_weights(run)
    if _anywhere(run.accelerator, not finite(weights)):
        newest = checkpoints.newest(folder / CHECKPOINTS)
        raise diverged(run.step, "weights are not finite", weights, last, newest)


def _local_weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: sharding.local(parameter) for name, parameter in run.policy.trainable.items()}


def _check_base(spec: TrainSpec, weights: str | None) -> None:
    """Raise ConfigError where the base that was loaded is not the one that was asked for.

    Its files may have been changed while this run waited for its turn, or while they were read.
    """
    now = base_identity(spec.model)["weights"]
    if now != weights or (spec.weights and now != spec.weights):
        raise ConfigError(
            f"The files of {spec.model.repo} are not those of the run: their digest is {now}, not "
            f"{spec.weights or weights}.",
            "Give every machine the same weights, and leave them alone until the trainer has read them; then run the "
            "same again.",
        )


def _anywhere(accelerator: Accelerator, flag: bool) -> bool:
    """True on every process when it is true on any."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum").item())
