"""Metrics of a run: one JSON object per optimizer step in `metrics.jsonl`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor

from pipeline_lib.training.losses import Pairs, orientation, preference


@torch.no_grad()
def statistics(pairs: Pairs, loss: Tensor, extra: dict[str, Tensor], beta: float) -> dict[str, Tensor]:
    """Scalars of one forward pass, means over its pairs.

    - loss
    - implicit_accuracy: share of pairs whose likelier winner gained on the loser against the reference; ties half
    - margin: ell; logit: z = 0.5 * beta * ell, both for the likelier winner
    - win_error, lose_error: error of the likelier winner and loser minus the reference's
    - gradient_factor: sigmoid(-z), the weight of a pair in the DPO gradient
    """
    sign = orientation(pairs.target)
    ell = sign * preference(pairs.policy, pairs.reference)
    first, second = pairs.policy - pairs.reference
    return {
        "loss": loss.mean(),
        "implicit_accuracy": (ell > 0).float().mean() + 0.5 * (ell == 0).float().mean(),
        "margin": ell.mean(),
        "logit": 0.5 * beta * ell.mean(),
        "win_error": torch.where(sign >= 0, first, second).mean(),
        "lose_error": torch.where(sign >= 0, second, first).mean(),
        "gradient_factor": torch.sigmoid(-0.5 * beta * ell).mean(),
        **extra,
    }


def truncate(path: Path, step: int) -> None:
    """Drop the lines after optimizer step `step`, and a half-written last line: a resumed run writes them again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            break
    scratch = path.with_suffix(".tmp")
    scratch.write_text("".join(f"{line}\n" for line in kept))
    os.replace(scratch, path)
