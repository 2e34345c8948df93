"""Memory and disk of a training run, from below: what weights alone take."""

from __future__ import annotations

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.sizing.bases import FP16, FP32

OPTIMIZER_BYTES = {"adamw": 8, "adamw8bit": 2, "adafactor": 0}
"""Per trained parameter. Adafactor keeps a row and a column of each matrix: about a thousandth."""
LORA_SHARE = 0.005
"""Adapters of rank 8 on the attention projections beside the UNet's parameters, rounded up."""


def gpu_bytes(config: TrainConfig, parameters: int) -> int:
    """Bytes of weights, gradients, optimizer state and reference on each GPU, without sharding.

    Activations come on top; they depend on batch, resolution and gradient checkpointing, and were not measured on a
    GPU. A card with less than this cannot train; one with little more may not either.
    """
    trained = _trained(config, parameters)
    frozen = 0
    if config.adapter == "lora":
        frozen = parameters * (FP32 if config.mixed_precision == "no" else FP16)
    elif not config.fixed_draws:
        frozen = parameters * FP32  # the reference
    return frozen + trained * (2 * FP32 + OPTIMIZER_BYTES[config.optimizer])


def disk_bytes(config: TrainConfig, parameters: int) -> int:
    """Bytes of the checkpoints that are kept, one that is being written, and the result."""
    trained = _trained(config, parameters)
    refreshed = FP32 if config.reference_refresh else 0
    checkpoint = trained * (FP32 + OPTIMIZER_BYTES[config.optimizer] + refreshed)
    return checkpoint * (config.keep_checkpoints + len(config.milestones) + 1) + trained * FP32


def _trained(config: TrainConfig, parameters: int) -> int:
    return int(parameters * LORA_SHARE) if config.adapter == "lora" else parameters
