"""A training run in memory: how it is built, and what of it a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from pipeline_lib.core.config import TrainConfig, require
from pipeline_lib.core.store import Dataset
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.components import load_schedule
from pipeline_lib.models.family import Family, NoiseSchedule
from pipeline_lib.models.noise import check_range
from pipeline_lib.training import checkpoints, reference, sharding
from pipeline_lib.training.batches import Sampler
from pipeline_lib.training.change import Original, original_weights
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.losses import Loss
from pipeline_lib.training.methods import Method, check_labels, load_loss
from pipeline_lib.training.optimizers import build_optimizer
from pipeline_lib.training.policy import Policy, build_policy
from pipeline_lib.training.reference import Weights
from pipeline_lib.training.reference_cache import ReferenceCache, open_cache
from pipeline_lib.training.tables import Tables, open_tables, read_labels

CACHE = "cache"
UNPACKING = timedelta(hours=6)
"""How long the other processes of a machine wait while the first one unpacks the caches."""


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
    cache: ReferenceCache | None = None
    original: Original | None = None
    """The base's weights, where this process compares all weights with them."""
    step: int = 0
    refreshes: int = 0
    skipped: int = 0
    """Steps without an update because loss or gradient was not finite."""
    skipped_in_a_row: int = 0

    @property
    def passes(self) -> int:
        """Forward passes of this process per optimizer step."""
        return self.config.gradient_accumulation // self.accelerator.num_processes

    @property
    def pairs_per_step(self) -> int:
        """Pairs of an optimizer step, over all processes."""
        return self.config.batch_size * self.config.gradient_accumulation


def build(spec: TrainSpec, method: Method, encoded: Dataset, labels: Dataset, identity: str) -> Run:
    """Everything of a run at step 0; raises ConfigError, LabelError, SchemaError for what cannot be trained."""
    config = spec.train
    frame = read_labels(labels)
    check_labels(config, frame)
    require(
        config.mixed_precision != "fp16" or torch.cuda.is_available(),
        "mixed_precision='fp16' needs a GPU, and this machine has none.",
        "Train with mixed_precision='no', or start this run on a GPU machine.",
    )
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision, kwargs_handlers=[InitProcessGroupKwargs(timeout=UNPACKING)]
    )
    processes = accelerator.num_processes
    require(
        config.gradient_accumulation % processes == 0,
        f"{processes} processes cannot share the {config.gradient_accumulation} forward passes of an optimizer step.",
        "Use a number of processes that divides gradient_accumulation, or change it together with batch_size.",
    )
    folder = Path(spec.run_dir) / CACHE
    with accelerator.local_main_process_first():
        tables = open_tables(encoded, frame, folder)
        cache = None
        if config.fixed_draws:
            cache = open_cache(folder / f"reference-{identity[:16]}.npy", len(tables), config.fixed_draws)
    schedule = load_schedule(spec.model).to(accelerator.device)
    sampler = _sampler(config, tables, schedule.timesteps, encoded)
    policy = build_policy(spec.model, config)
    if spec.sharding == "fsdp" and processes > 1:
        policy = sharding.shard(policy, accelerator)
        model = policy.unet
        optimizer = accelerator.prepare(build_optimizer(policy.trainable.values(), config))
    else:
        policy.unet.to(accelerator.device)
        if config.compile:
            policy.unet.compile()
        optimizer = build_optimizer(policy.trainable.values(), config)
        model, optimizer = accelerator.prepare(policy.unet, optimizer)
    return Run(
        config=config,
        method=method,
        loss=load_loss(config.method),
        family=FAMILIES.get(spec.model.family),
        schedule=schedule,
        policy=policy,
        model=model,
        optimizer=optimizer,
        accelerator=accelerator,
        sampler=sampler,
        # A cache is filled before the policy changes (step.fill_cache): nothing to keep.
        reference=None if cache or method.reference == "none" else reference.initial_reference(policy),
        annotators=[reference.copy_weights(policy) for _ in config.ema_decays] if method.annotators else [],
        cache=cache,
        original=None if policy.lora or not accelerator.is_main_process else original_weights(spec.model),
    )


def _sampler(config: TrainConfig, tables: Tables, timesteps: int, encoded: Dataset) -> Sampler:
    require(
        config.flip == 0 or tables.flippable,
        f"flip is {config.flip}, but {encoded.uri} has no mirrored images.",
        "Encode with flipped=True, or set flip to 0.",
    )
    check_range(timesteps, config.timestep_range)
    first, last = config.timestep_range or (0, timesteps - 1)
    return Sampler(
        tables,
        config.seed,
        range(first, last + 1),
        dropout=config.prompt_dropout,
        flip=config.flip,
        stratified=config.timestep_sampling == "stratified",
        fixed_draws=config.fixed_draws,
    )


def capture(run: Run, identity: str) -> checkpoints.Checkpoint:
    """What must be kept to continue the run exactly; sharded tensors are gathered, by all processes together."""
    moments, values = checkpoints.optimizer_state(run.optimizer, list(run.policy.trainable))
    groups: dict[str, Any] = {"trainable": run.policy.trainable, "optimizer": moments}
    if run.refreshes and run.reference is not None:
        groups["reference"] = run.reference
    groups.update({f"annotator-{i}": weights for i, weights in enumerate(run.annotators)})
    if run.policy.sharded:
        main = run.accelerator.is_main_process
        groups = {group: sharding.gathered(tensors, main) for group, tensors in groups.items()}
    scaler = run.accelerator.scaler
    scalars = {
        "optimizer": values,
        "refreshes": run.refreshes,
        "skipped": run.skipped,
        "scaler": scaler.state_dict() if scaler else None,
    }
    return checkpoints.Checkpoint(run.step, identity, groups, scalars)


@torch.no_grad()
def restore(run: Run, saved: checkpoints.Checkpoint) -> None:
    """Put a run where a checkpoint left it."""
    for name, parameter in run.policy.trainable.items():
        parameter.copy_(sharding.like(parameter, saved.tensors["trainable"][name]))
    trainable = run.policy.trainable
    moments = {
        path: sharding.like(trainable[path.rpartition("/")[0]], values)
        for path, values in saved.tensors["optimizer"].items()
    }
    checkpoints.restore_optimizer(run.optimizer, list(trainable), moments, saved.scalars["optimizer"])
    if "reference" in saved.tensors:
        run.reference = _frozen(run, saved, "reference")
    for i in range(len(run.annotators)):
        run.annotators[i] = _frozen(run, saved, f"annotator-{i}")
    if run.accelerator.scaler and saved.scalars["scaler"]:
        run.accelerator.scaler.load_state_dict(saved.scalars["scaler"])
    run.step, run.refreshes, run.skipped = saved.step, saved.scalars["refreshes"], saved.scalars["skipped"]


def _frozen(run: Run, saved: checkpoints.Checkpoint, group: str) -> Weights:
    return {
        name: sharding.like(parameter, saved.tensors[group][name]) for name, parameter in run.policy.trainable.items()
    }
