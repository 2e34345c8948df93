"""What to say about a run whose loss, gradient or weights stopped being finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pipeline_lib.core.errors import TrainingDivergedError

REMEDY = "Lower learning_rate or beta, add warmup_steps, or train with mixed_precision='no' or 'bf16'."
_TOLD = ("loss", "grad_norm", "logit", "win_error", "lose_error")
_GROWN = 0.05  # of an error that is about 1 where the model knows nothing


def finite(tensors: Mapping[str, Tensor]) -> bool:
    """Every number of every tensor is finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def diverged(
    step: int, what: str, weights: Mapping[str, Tensor], last: Mapping[str, float], checkpoint: Path | None
) -> TrainingDivergedError:
    """The error for a run that cannot go on.

    Args:
        step: optimizer steps done.
        what: what is wrong, as a clause.
        weights: the policy's trainable parameters.
        last: metrics of the last step that was finite, empty when there was none.
        checkpoint: the newest checkpoint, written before the trouble.
    """
    told = ", ".join(f"{name} {last[name]:.4g}" for name in _TOLD if name in last)
    lines = [f"Optimizer step {step}: {what}. {_cause(weights, last)}"]
    lines.append(f"Last finite step {last['step']:.0f}: {told}." if last else "No step was finite.")
    lines.append(f"Last good checkpoint: {checkpoint}." if checkpoint else "There is no checkpoint yet.")
    return TrainingDivergedError("\n".join(lines), REMEDY)


def last_finite(metrics: Mapping[str, float], step: int, before: Mapping[str, float]) -> Mapping[str, float]:
    """The metrics of this step if its loss and gradient are finite, else those of `before`."""
    good = all(math.isfinite(metrics[name]) for name in ("loss", "grad_norm"))
    return {"step": step, **metrics} if good else before


def _cause(weights: Mapping[str, Tensor], last: Mapping[str, float]) -> str:
    broken = [name for name, tensor in weights.items() if not finite({name: tensor})]
    if broken:
        return (
            f"{len(broken)} of {len(weights)} trainable tensors are not, first {broken[0]}: an update was too large."
        )
    if min(last.get("win_error", 0.0), last.get("lose_error", 0.0)) > _GROWN:
        return "The weights are finite; the errors of winners and losers had both grown over the reference's."
    return "The weights are finite; the forward or backward pass overflows."
