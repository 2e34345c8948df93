"""The training loop: pairs in, one aligned UNet or LoRA out. Knows files only; no orchestrator, no tracker."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from pipeline_lib.config import TrainConfig, require
from pipeline_lib.digest import digest
from pipeline_lib.errors import ConfigError, TrainingDivergedError
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.components import load_schedule
from pipeline_lib.models.family import Family, NoiseSchedule
from pipeline_lib.store import Dataset, open_dataset
from pipeline_lib.training import checkpoints, metrics, reference
from pipeline_lib.training.batches import Batch, Sampler, generator
from pipeline_lib.training.losses import Loss, Pairs, pixel_error
from pipeline_lib.training.methods import LOSSES, Method, check_config, check_labels
from pipeline_lib.training.optimizers import build_optimizer, learning_rate
from pipeline_lib.training.policy import Policy, build_policy, save_policy
from pipeline_lib.training.reference import Weights
from pipeline_lib.training.spec import TrainSpec, run_digest
from pipeline_lib.training.tables import open_tables, read_labels

METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
MODEL = "model"
CACHE = "cache"

Outcome = Literal["done", "interrupted"]


@dataclass
class Run:
    """A training run in memory. `step` counts finished optimizer steps; the rest changes with it."""

    config: TrainConfig
    method: Method
    loss: Loss
    family: Family
    schedule: NoiseSchedule
    policy: Policy
    model: Any
    """The UNet as accelerate wrapped it; gradients go through it."""
    optimizer: Any
    accelerator: Accelerator
    sampler: Sampler
    reference: Weights | None
    annotators: list[Weights]
    step: int = 0
    refreshes: int = 0


def train(spec: TrainSpec, stopping: Callable[[], bool] = lambda: False) -> Outcome:
    """Run a training job to its end, or until `stopping()`; starts from the newest checkpoint in `spec.run_dir`.

    Writes `metrics.jsonl`, `checkpoints/` and, at the end, `model/`. On a CPU the result depends only on model,
    configuration and data, bit for bit.

    Raises:
        ConfigError, LabelError, SchemaError: before the first step, for settings or data that cannot be trained on.
        HubError, CheckpointError: the base model or a checkpoint cannot be read, or a checkpoint not written.
        TrainingDivergedError: loss or gradient stopped being finite.
    """
    config, folder = spec.train, Path(spec.run_dir)
    if (folder / MODEL).is_dir():
        return "done"
    method = check_config(config)
    encoded, labels = open_dataset(spec.encoded), open_dataset(spec.labels)
    _check_base(spec, encoded)
    run = _start(spec, method, encoded, labels)
    identity = digest([run_digest(spec, encoded.digest, labels.digest), _pairs_per_step(run)])
    if found := checkpoints.latest(folder / CHECKPOINTS, identity):
        _restore(run, found)
    if run.accelerator.is_main_process:
        metrics.truncate(folder / METRICS, run.step)
    outcome = _loop(run, folder, identity, stopping)
    run.accelerator.wait_for_everyone()
    if outcome == "done" and run.accelerator.is_main_process:
        scratch = folder / f".{MODEL}.tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        save_policy(run.policy, spec.model, config, scratch)
        scratch.rename(folder / MODEL)
        shutil.rmtree(folder / CACHE, ignore_errors=True)
    run.accelerator.wait_for_everyone()
    return outcome


def pair_errors(run: Run, batch: Batch) -> Pairs:
    """Errors of policy, reference and annotators on one batch: one noise, timestep and text per pair."""
    pairs = len(batch.timesteps)
    timesteps = batch.timesteps.repeat(2)
    noisy, target = run.schedule.noisy_and_target(batch.clean, batch.noise.repeat(2, 1, 1, 1), timesteps)
    pooled = None if batch.pooled is None else batch.pooled.repeat(2, 1)
    conditioning = run.family.conditioning(batch.embeddings.repeat(2, 1, 1), pooled, run.sampler.tables.resolution)
    inputs = (noisy, timesteps)

    def errors(prediction: Tensor) -> Tensor:
        return pixel_error(prediction, target).view(2, pairs)

    def frozen(weights: Weights | None) -> Tensor:
        return errors(reference.predict(run.policy, weights, inputs, conditioning))

    # Frozen models first: they borrow the policy's module, whose graph must not be alive then.
    base = None if run.method.reference == "none" else frozen(run.reference)
    history = [frozen(weights) for weights in run.annotators]
    policy = errors(run.model(*inputs, **conditioning, return_dict=False)[0])
    label, is_human, human, g_hat, weight = batch.labels
    return Pairs(
        policy=policy,
        reference=policy.detach() if base is None else base,
        target=label,
        annotators=torch.stack(history) if history else policy.new_zeros(0, 2, pairs),
        is_human=is_human,
        human=human,
        g_hat=g_hat,
        weight=weight,
        labelled_share=run.sampler.tables.labelled_share,
        batch_mean=lambda values: run.accelerator.reduce(values.mean(-1), "mean"),
    )


def optimizer_step(run: Run) -> dict[str, float]:
    """One optimizer step over `batch_size * gradient_accumulation` pairs per process; returns its metrics."""
    config, accelerator = run.config, run.accelerator
    parts = config.gradient_accumulation
    totals: Tensor | None = None
    names: list[str] = []
    for part in range(parts):
        block = (run.step * parts + part) * accelerator.num_processes + accelerator.process_index
        batch = run.sampler.batch(block * config.batch_size, config.batch_size, accelerator.device)
        if config.lora_dropout:  # the only random operation in the model
            torch.manual_seed(int(generator(config.seed, block).integers(2**63)))
        last = part == parts - 1
        with nullcontext() if last else accelerator.no_sync(run.model):
            pairs = pair_errors(run, batch)
            losses, extra = run.loss(pairs, config)
            losses = pairs.weight * losses
            accelerator.backward(losses.mean() / parts)
        found = metrics.statistics(pairs, losses, extra, config.beta)
        names, values = list(found), torch.stack(list(found.values())) / parts
        totals = values if totals is None else totals + values
    assert totals is not None
    result = dict(zip(names, accelerator.reduce(totals, "mean").tolist(), strict=True))
    norm = float(accelerator.clip_grad_norm_(run.policy.trainable.values(), config.max_grad_norm))
    _check_finite(run, result["loss"], norm)
    rate = learning_rate(config, run.step)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.step += 1
    for weights, decay in zip(run.annotators, config.ema_decays, strict=False):
        reference.follow(weights, run.policy, decay)
    if config.reference_refresh and run.step % config.reference_refresh == 0:
        run.reference = reference.refresh(run.policy, run.reference)
        run.refreshes += 1
    return {**result, "grad_norm": norm, "lr": rate, "refreshes": run.refreshes}


def _loop(run: Run, folder: Path, identity: str, stopping: Callable[[], bool]) -> Outcome:
    config, accelerator = run.config, run.accelerator
    saved, started = run.step, time.monotonic()
    log = (folder / METRICS).open("a", buffering=1) if accelerator.is_main_process else None
    with log or nullcontext():
        while run.step < config.steps:
            begun = time.monotonic()
            result = optimizer_step(run)
            if log:
                now = time.monotonic()
                timing = {"pairs_per_second": _pairs_per_step(run) / (now - begun), "seconds": now - started}
                log.write(json.dumps({"step": run.step, **result, **timing}) + "\n")
            stop = _anywhere(accelerator, stopping())
            if (stop or run.step % config.checkpoint_every == 0) and run.step < config.steps:
                if accelerator.is_main_process:
                    checkpoints.save(folder / CHECKPOINTS, _checkpoint(run, identity))
                accelerator.wait_for_everyone()
                saved = run.step
            if stop and saved == run.step:
                return "interrupted"
    return "done"


def _start(spec: TrainSpec, method: Method, encoded: Dataset, labels: Dataset) -> Run:
    config = spec.train
    frame = read_labels(labels)
    check_labels(config, frame)
    require(
        config.mixed_precision != "fp16" or torch.cuda.is_available(),
        "mixed_precision='fp16' needs a GPU, and this machine has none.",
        "Train with mixed_precision='no', or start this run on a GPU machine.",
    )
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    with accelerator.local_main_process_first():
        tables = open_tables(encoded, frame, Path(spec.run_dir) / CACHE)
    schedule = load_schedule(spec.model).to(accelerator.device)
    policy = build_policy(spec.model, config)
    policy.unet.to(accelerator.device)
    optimizer = build_optimizer(policy.trainable.values(), config)
    model, optimizer = accelerator.prepare(policy.unet, optimizer)
    return Run(
        config=config,
        method=method,
        loss=LOSSES.get(method.loss),
        family=FAMILIES.get(spec.model.family),
        schedule=schedule,
        policy=policy,
        model=model,
        optimizer=optimizer,
        accelerator=accelerator,
        sampler=Sampler(tables, config.seed, schedule.timesteps, config.prompt_dropout),
        reference=None if method.reference == "none" else reference.initial_reference(policy),
        annotators=[reference.copy_weights(policy) for _ in config.ema_decays] if method.annotators else [],
    )


def _checkpoint(run: Run, identity: str) -> checkpoints.Checkpoint:
    moments, values = checkpoints.optimizer_state(run.optimizer, list(run.policy.trainable))
    groups: dict[str, Any] = {"trainable": run.policy.trainable, "optimizer": moments}
    if run.refreshes and run.reference is not None:
        groups["reference"] = run.reference
    groups.update({f"annotator-{i}": weights for i, weights in enumerate(run.annotators)})
    scaler = run.accelerator.scaler
    scalars = {"optimizer": values, "refreshes": run.refreshes, "scaler": scaler.state_dict() if scaler else None}
    return checkpoints.Checkpoint(run.step, identity, groups, scalars)


@torch.no_grad()
def _restore(run: Run, saved: checkpoints.Checkpoint) -> None:
    for name, parameter in run.policy.trainable.items():
        parameter.copy_(saved.tensors["trainable"][name])
    names = list(run.policy.trainable)
    checkpoints.restore_optimizer(run.optimizer, names, saved.tensors["optimizer"], saved.scalars["optimizer"])
    device = run.accelerator.device
    if "reference" in saved.tensors:
        run.reference = {name: saved.tensors["reference"][name].to(device) for name in names}
    for i in range(len(run.annotators)):
        run.annotators[i] = {name: saved.tensors[f"annotator-{i}"][name].to(device) for name in names}
    if run.accelerator.scaler and saved.scalars["scaler"]:
        run.accelerator.scaler.load_state_dict(saved.scalars["scaler"])
    run.step, run.refreshes = saved.step, saved.scalars["refreshes"]


def _check_base(spec: TrainSpec, encoded: Dataset) -> None:
    made = encoded.config.get("model", {})
    wanted = {"family": spec.model.family, "repo": spec.model.repo, "vae_repo": spec.model.vae_repo}
    found = {name: made.get(name) for name in wanted}
    if found != wanted:
        raise ConfigError(
            f"{encoded.uri} was encoded by {found}, but the model to train is {wanted}.",
            "Encode with the model to train.",
        )


def _check_finite(run: Run, loss: float, norm: float) -> None:
    # fp16 overflows in the gradient are normal: the gradient scaler skips such a step and lowers its scale.
    if math.isfinite(loss) and (math.isfinite(norm) or run.accelerator.scaler is not None):
        return
    raise TrainingDivergedError(
        f"Optimizer step {run.step + 1}: loss {loss}, gradient norm {norm}.",
        "Lower learning_rate or beta, add warmup_steps, or train with mixed_precision='no' or 'bf16'.",
    )


def _pairs_per_step(run: Run) -> int:
    return run.config.batch_size * run.config.gradient_accumulation * run.accelerator.num_processes


def _anywhere(accelerator: Accelerator, flag: bool) -> bool:
    """True on every process when it is true on any."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum").item())
