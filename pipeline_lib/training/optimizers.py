"""Optimizers and learning-rate schedules. The schedule is a pure function of the step, so it has no state."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import ConfigError


def build_optimizer(parameters: Iterable[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """The configured optimizer; betas (0.9, 0.999), eps 1e-8; Adafactor as in Diffusion-DPO (fixed rate).

    Raises:
        ConfigError: the optimizer cannot run here.
    """
    parameters = list(parameters)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    if config.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(
            parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            clip_threshold=1.0,
            scale_parameter=False,
            relative_step=False,
        )
    if not torch.cuda.is_available():  # bitsandbytes updates blockwise-quantised moments on GPUs only
        raise ConfigError(
            "optimizer='adamw8bit' needs a GPU, and this machine has none.",
            "Start this run on a GPU machine, or use adamw or adafactor.",
        )
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ConfigError(
            f"optimizer='adamw8bit' needs bitsandbytes: {error}.",
            "Install the extra: pip install '.[gpu]', or use adamw.",
        ) from error
    return AdamW8bit(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of optimizer step `step` (from 0): linear warm-up over `warmup_steps`, then the schedule.

    "linear" and "cosine" reach 0 at `steps`.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.schedule == "linear":
        return config.learning_rate * (1 - done)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
