"""A claim file that is right, to be changed in one place by each test."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from pipeline_lib.claims.claim import Claim
from pipeline_lib.claims.read import read

RAW: dict[str, Any] = {
    "title": "Flips hurt",
    "sources": ["A paper (arXiv 1234.56789), Table 1"],
    "says": "The win rate falls\nwith wrong labels.",
    "miniature": "Small models, small effects.",
    "sweep": {
        "seeds": [0, 1, 2],
        "common": {"method": "dpo"},
        "settings": {"s0": {"recipe": "human"}, "s1": {"recipe": "flip10"}, "s2": {"recipe": "flip30"}},
        "reference": "s0",
        "measures": ["train/implicit_accuracy"],
    },
    "findings": {
        "degrades": {
            "says": "30% flips cost",
            "contrasts": [{"measure": "gain/true", "of": {"s0": 1, "s2": -1}, "above": 0.0, "below": 0.05}],
        },
        "not-worse": {
            "says": "10% flips cost next to nothing",
            "contrasts": [{"measure": "win/true", "of": {"s1": 1, "s0": -1}, "above": -0.03}],
        },
    },
}


def claim(name: str = "flips", **changes: Any) -> Claim:
    """The claim with top-level keys replaced; None takes one away."""
    return read(name, yaml.safe_dump(changed(**changes), sort_keys=False))


def changed(**changes: Any) -> dict[str, Any]:
    """`RAW` with top-level keys replaced; None takes one away."""
    raw = {**copy.deepcopy(RAW), **changes}
    return {key: value for key, value in raw.items() if value is not None}
