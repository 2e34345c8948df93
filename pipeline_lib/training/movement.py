"""Whether a run moves its weights at all: a learning rate copied from a paper may have to be scaled before it acts.

How far they are from the base's is measured in change.py. Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline_lib.core.config import TrainConfig

CHANGE = "relative_change"
PROJECTED = "projected_change"

FIRST_LOOK = 20
"""Optimizer steps after which a run's whole way is projected; shorter runs are not judged."""
TRIAL = 100
"""A run of fewer steps is a trial of settings, and is judged as if it had that many."""
THRESHOLD = 5e-4
"""A run that moves its weights by less than this share of their length has left them where they were: it lies between
2,000 steps at 1e-8 and the gentlest preset. Measurements are in docs/presets.md."""


def due(config: TrainConfig, step: int) -> bool:
    """Whether to measure after optimizer step `step`: the first look, checkpoints that are planned, and the end.

    It follows from the step alone: a run that was stopped and continued logs the same.
    """
    return step in (FIRST_LOOK, config.steps, *config.milestones) or step % config.checkpoint_every == 0


def warning(train: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """What to tell about a run that will not move its weights; None for any other.

    Args:
        train: fields of its TrainConfig.
        record: a line of its metrics; the one of the first look says how far it gets.
    """
    total, steps = record.get(PROJECTED), train["steps"]
    if total is None or total * max(1.0, TRIAL / steps) >= THRESHOLD:
        return None
    rate, pairs = train["learning_rate"], train["batch_size"] * train["gradient_accumulation"]
    return (
        f"The weights do not move: learning rate {_plain(rate)} moves weights by {_plain(total)} of their length in "
        f"{steps} steps, where a training moves them by {_plain(THRESHOLD)} and more. Papers of this line give rates "
        f"before scaling: with {pairs} pairs per step {_plain(rate)} means {_plain(rate * pairs)} (docs/presets.md)."
    )


def unmoved(train: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> str | None:
    """`warning` of a whole run, from its metrics."""
    return next(filter(None, (warning(train, record) for record in records)), None)


def _plain(number: float) -> str:
    return f"{number:.3g}".replace("e-0", "e-")
