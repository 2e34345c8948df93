"""Named label recipes: what the methods of the papers use, and what they are compared with."""

from __future__ import annotations

from typing import Any

from pipeline_lib.registry import unknown_name

_DECIDED: dict[str, Any] = {"filter": ["ties", "unlabelled"]}
_HUMAN: list[dict[str, Any]] = [_DECIDED, {"single": "human"}]
_QUARTER: list[dict[str, Any]] = [_DECIDED, {"reveal": 0.25, "seed": 7}, {"pseudo_label": "clip"}]

RECIPES: dict[str, list[dict[str, Any]]] = {
    # The human label of every pair that has one; ties are dropped, as in the official Diffusion-DPO code.
    "human": _HUMAN,
    # BalancedDPO, K = 4. Human ties and unlabelled pairs stay: the scorers can decide them.
    "balanced": [{"vote": ["hpsv2", "clip", "pickscore", "aesthetic"], "ties": "human"}],
    # The voting baseline of the Adaptive-DPO paper: five voters, the human one of them.
    "voting5": [_DECIDED, {"vote": ["human", "pickscore", "imagereward", "aesthetic", "hpsv2"], "ties": "human"}],
    # DeDPO: a quarter of the human labels, a calibrated scorer for the rest; and its naive counterpart.
    "dedpo25": [*_QUARTER, {"dedpo": {}}],
    "naive25": [*_QUARTER, {"mix": {}}],
    # Human labels with injected noise. The same seed flips a growing set: flip10 is part of flip20.
    "flip10": [*_HUMAN, {"flip": 0.1, "seed": 7}],
    "flip20": [*_HUMAN, {"flip": 0.2, "seed": 7}],
    "flip30": [*_HUMAN, {"flip": 0.3, "seed": 7}],
}


def named(name: str) -> list[dict[str, Any]]:
    """A recipe by name; raises UnknownNameError with suggestions."""
    if name not in RECIPES:
        raise unknown_name("label recipe", name, sorted(RECIPES))
    return RECIPES[name]
