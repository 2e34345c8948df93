"""Metrics of a run: one JSON object per optimizer step in `metrics.jsonl`.

Within a step a metric is a scalar, averaged over forward passes and processes, or a pair (numerator, denominator),
whose ratio is taken at the end: a share among pairs that some passes may have none of.

Some steps also have `relative_change`, how far the weights are from the base's (change.py), and step 20 has
`projected_change`, how far the whole run gets at most (movement.py).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pipeline_lib.training.losses import Pairs, orientation, preference

TIMESTEP_BINS = 4


@torch.no_grad()
def statistics(
    pairs: Pairs, loss: Tensor, extra: dict[str, Tensor], beta: float, noise_level: Tensor
) -> dict[str, Tensor]:
    """Statistics of one forward pass, over its pairs.

    - loss
    - implicit_accuracy: share of pairs whose likelier winner gained on the loser against the reference; ties half
    - accuracy_t0 .. accuracy_t3: the same among pairs whose timestep is in the first .. last quarter
    - margin: ell; logit: z = 0.5 * beta * ell, both for the likelier winner
    - win_error, lose_error: error of the likelier winner and loser minus the reference's
    - gradient_factor: sigmoid(-z), the weight of a pair in the DPO gradient

    Args:
        extra: further statistics of the loss.
        noise_level: timestep over the number of timesteps, in [0, 1), fp32 [n].
    """
    sign = orientation(pairs.target)
    ell = sign * preference(pairs.policy, pairs.reference)
    first, second = pairs.policy - pairs.reference
    right = (ell > 0).float() + 0.5 * (ell == 0).float()
    level = (noise_level * TIMESTEP_BINS).long()
    inside = {f"accuracy_t{k}": (level == k).float() for k in range(TIMESTEP_BINS)}
    return {
        "loss": loss.mean(),
        "implicit_accuracy": (ell > 0).float().mean() + 0.5 * (ell == 0).float().mean(),
        "margin": ell.mean(),
        "logit": 0.5 * beta * ell.mean(),
        "win_error": torch.where(sign >= 0, first, second).mean(),
        "lose_error": torch.where(sign >= 0, second, first).mean(),
        "gradient_factor": torch.sigmoid(-0.5 * beta * ell).mean(),
        **extra,
        **{name: torch.stack([(right * here).sum(), here.sum()]) for name, here in inside.items()},
    }


def flatten(found: Mapping[str, Tensor]) -> Tensor:
    """All statistics in one vector, to be summed over passes and processes in one go."""
    return torch.cat([value.reshape(-1) for value in found.values()])


def unflatten(found: Mapping[str, Tensor], totals: list[float]) -> dict[str, float]:
    """Names and values of totals laid out like `flatten(found)`; ratios over nothing are left out."""
    values = iter(totals)
    result = {}
    for name, like in found.items():
        if like.ndim == 0:
            result[name] = next(values)
            continue
        above, below = next(values), next(values)
        if below:
            result[name] = above / below
    return result


def line(record: Mapping[str, float]) -> bytes:
    """One line of `metrics.jsonl`. JSON has no NaN: numbers that are not finite are left out."""
    return json.dumps({name: value for name, value in record.items() if math.isfinite(value)}).encode() + b"\n"


def memory_mb(device: torch.device) -> float:
    """Peak memory in MiB: allocated on the GPU, or resident in this process where there is none (Linux only)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # Not getrusage: its figure survives exec and so may be that of the process that started this one.
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) / 2**10 if found else math.nan


def truncate(path: Path, step: int) -> None:
    """Drop the lines after optimizer step `step`, and a half-written last line: a resumed run writes them again."""
    if not path.exists():
        return
    kept = []
    for text in path.read_text().splitlines():
        try:
            if json.loads(text)["step"] <= step:
                kept.append(text)
        except (ValueError, KeyError, TypeError):
            break
    scratch = path.with_suffix(".tmp")
    scratch.write_text("".join(f"{text}\n" for text in kept))
    os.replace(scratch, path)
