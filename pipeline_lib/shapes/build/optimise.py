"""The one training loop all tiny models share: AdamW, warm-up and cosine decay, logged losses."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Log = list[dict[str, Any]]
_LOG = logging.getLogger(__name__)


def minimise(
    parameters: Iterable[Tensor],
    loss_at: Callable[[int], Tensor],
    steps: int,
    rate: float,
    name: str,
    weight_decay: float = 0.01,
    after_step: Callable[[int], None] | None = None,
) -> Log:
    """Minimise `loss_at(step)` for `steps` steps.

    Returns log rows with the mean loss of every twentieth part of the run.
    """
    optimiser = torch.optim.AdamW(list(parameters), lr=rate, weight_decay=weight_decay, betas=(0.9, 0.99))
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    log: Log = []
    recent: list[float] = []
    started = time.perf_counter()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * _schedule(step, steps)
        loss = loss_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        if after_step is not None:
            after_step(step)
        recent.append(loss.item())
        if (step + 1) % max(1, steps // 20) == 0:
            seconds = round(time.perf_counter() - started, 1)
            log.append({"component": name, "step": step + 1, "loss": sum(recent) / len(recent), "seconds": seconds})
            _LOG.info("%s", log[-1])
            recent.clear()
    return log


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / max(1, min(100, steps // 10)))
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / max(1, steps))))


def to_tensor(images: Any) -> Tensor:
    """Images (n, 32, 32, 3) in 0..1 as float32 (n, 3, 32, 32)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous()
