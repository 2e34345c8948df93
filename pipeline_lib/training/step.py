"""One optimizer step: errors of every model, the method's loss, gradients, update, and what they say about the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from accelerate.utils import get_int_from_env
from torch import Tensor

from pipeline_lib.training import metrics, reference
from pipeline_lib.training.batches import Batch, generator
from pipeline_lib.training.losses import Pairs, pixel_error
from pipeline_lib.training.optimizers import learning_rate
from pipeline_lib.training.reference import Weights
from pipeline_lib.training.run import Run
from pipeline_lib.training.sharding import whole


def pair_errors(run: Run, batch: Batch) -> tuple[Pairs, dict[str, Tensor]]:
    """Errors of policy, reference and annotators on one batch: one noise, timestep and text per pair.

    Returns:
        the errors with the batch's labels, and `drift` where the reference was run: the mean squared difference of
        the predictions of policy and reference, which is the divergence KL(policy || reference) of a denoising step
        up to a factor that depends on the timestep.
    """
    pairs = len(batch.timesteps)
    inputs, conditioning, target = _question(run, batch)

    def errors(prediction: Tensor) -> Tensor:
        return pixel_error(prediction, target).view(2, pairs)

    def predict(weights: Weights | None) -> Tensor:
        return reference.predict(run.policy, weights, inputs, conditioning)

    # Frozen models first: they borrow the policy's module, whose graph must not be alive then.
    base = run.cache.read(batch) if run.cache else None
    frozen = None if run.cache or run.method.reference == "none" else predict(run.reference)
    if frozen is not None:
        base = errors(frozen)
    history = [errors(predict(weights)) for weights in run.annotators]
    prediction = run.model(*inputs, **conditioning, return_dict=False)[0]
    policy = errors(prediction)
    label, is_human, human, g_hat, weight, flipped = batch.labels
    found = Pairs(
        policy=policy,
        reference=policy.detach() if base is None else base,
        target=label,
        annotators=torch.stack(history) if history else policy.new_zeros(0, 2, pairs),
        is_human=is_human,
        human=human,
        g_hat=g_hat,
        weight=weight,
        flipped=flipped,
        labelled_share=run.sampler.tables.labelled_share,
        flips_known=run.sampler.tables.flips_known,
    )
    return found, {} if frozen is None else {"drift": pixel_error(prediction.detach(), frozen).mean()}


def fill_cache(run: Run, stopping: Callable[[], bool] = lambda: False) -> bool:
    """Before the first step, while the policy is the reference: its errors on every draw that the run will meet, so
    that no copy of it is kept. Each machine computes all, shared by its processes. False when `stopping()` ended it.
    """
    cache, size = run.cache, run.config.batch_size
    assert cache is not None
    end = min(run.config.fixed_draws * len(run.sampler.tables), run.config.steps * run.pairs_per_step)
    step = size * get_int_from_env(["LOCAL_WORLD_SIZE"], 1)
    for start in range(size * run.accelerator.local_process_index, end, step):
        if stopping():
            return False
        batch = run.sampler.batch(start, min(size, end - start), run.accelerator.device)
        if cache.missing(batch):
            inputs, conditioning, target = _question(run, batch)
            prediction = reference.predict(run.policy, None if run.policy.lora else {}, inputs, conditioning)
            cache.write(batch, pixel_error(prediction, target).view(2, -1))
    return True


def _question(run: Run, batch: Batch) -> tuple[tuple[Tensor, Tensor], dict[str, Any], Tensor]:
    """What the UNet is asked about n pairs: noisy latents and timesteps [2n], conditioning; and the target."""
    timesteps = batch.timesteps.repeat(2)
    noisy, target = run.schedule.noisy_and_target(batch.clean, batch.noise.repeat(2, 1, 1, 1), timesteps)
    pooled = None if batch.pooled is None else batch.pooled.repeat(2, 1)
    embeddings = batch.embeddings if run.policy.shares_text else batch.embeddings.repeat(2, 1, 1)
    conditioning = run.family.conditioning(embeddings, pooled, run.sampler.tables.resolution)
    return (noisy, timesteps), conditioning, target


def optimizer_step(run: Run, stopping: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
    """One optimizer step over `pairs_per_step` pairs; returns its metrics, or None when `stopping()` ended it early.

    A step that ends early leaves the run as it was before. One whose loss or gradient is not finite passes over its
    pairs without an update and is counted.
    """
    config, accelerator = run.config, run.accelerator
    totals: Tensor | None = None
    found: dict[str, Tensor] = {}
    for part in range(run.passes):
        if part and stopping():
            run.optimizer.zero_grad()
            return None
        block = (run.step * run.passes + part) * accelerator.num_processes + accelerator.process_index
        batch = run.sampler.batch(block * config.batch_size, config.batch_size, accelerator.device)
        if config.lora_dropout:  # the only random operation in the model
            torch.manual_seed(int(generator(config.seed, block).integers(2**63)))
        with nullcontext() if part == run.passes - 1 else accelerator.no_sync(run.model):
            pairs, drift = pair_errors(run, batch)
            losses, extra = run.loss(pairs, config)
            losses = pairs.weight * losses
            accelerator.backward(losses.mean() / run.passes)
        level = batch.timesteps / run.schedule.timesteps
        found = metrics.statistics(pairs, losses, extra | drift, config.beta, level)
        values = metrics.flatten(found) / run.passes
        totals = values if totals is None else totals + values
    assert totals is not None
    result = metrics.unflatten(found, accelerator.reduce(totals, "mean").tolist())
    norm = float(whole(accelerator.clip_grad_norm_(run.policy.trainable.values(), config.max_grad_norm)))
    rate = learning_rate(config, run.step)
    updated = _update(run, result["loss"], norm, rate)
    run.step += 1
    if updated:
        for weights, decay in zip(run.annotators, config.ema_decays, strict=False):
            reference.follow(weights, run.policy, decay)
    if config.reference_refresh and run.step % config.reference_refresh == 0:
        run.reference = reference.refresh(run.policy, run.reference)
        run.refreshes += 1
    return {**result, "grad_norm": norm, "lr": rate, "refreshes": run.refreshes, "skipped": run.skipped}


def _update(run: Run, loss: float, norm: float, rate: float) -> bool:
    """Apply the gradients, unless loss or gradient norm is not finite; says whether it did."""
    scaler = run.accelerator.scaler
    # fp16 overflows in the gradient are normal: the scaler skips such a step and lowers its scale.
    finite = math.isfinite(loss) and (math.isfinite(norm) or (scaler is not None and scaler.get_scale() > 1))
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    if finite or scaler is not None:
        run.optimizer.step()
    run.optimizer.zero_grad()
    run.skipped_in_a_row = 0 if finite else run.skipped_in_a_row + 1
    run.skipped += not finite
    return finite
