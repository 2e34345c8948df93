"""A claim file that is right, to be changed in one place by each test; a project around it, and outcomes for it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from pipeline_lib.claims import document, results
from pipeline_lib.sweeps import claim as claims
from pipeline_lib.sweeps.claim import Claim, load
from pipeline_lib.sweeps.claim_files import read
from tests.pipeline_lib.sweeps.simulated import World

WORLD = World(settings=3, prompts=64)

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


def lay_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `root` a project with this claim alone and no results."""
    for module, name, folder in (
        (claims, "FOLDER", "pipeline_lib/presets/claims"),
        (results, "FOLDER", "pipeline_lib/claims/outcomes"),
        (document, "ROOT", "."),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(module, name, root / folder)
    put_claim(root)


def put_claim(project: Path, **changes: object) -> Claim:
    """Write the claim's file and read it."""
    path = project / "pipeline_lib" / "presets" / "claims" / "flips.yaml"
    path.write_text(yaml.safe_dump(changed(**changes), sort_keys=False), encoding="utf-8")
    return load("flips")


def outcomes(seed: int = 0) -> pl.DataFrame:
    """Three measures of three settings: the first two are as good as each other, the third is worse."""
    rng = np.random.default_rng(seed)
    gained = WORLD.draw(rng, {"s0": 0.8, "s1": 0.8})
    return pl.concat(
        [
            WORLD.frame(gained, "gain/true"),
            WORLD.frame((gained > 0).astype(float), "win/true"),
            WORLD.frame(gained / 2, "gain/average"),
        ]
    )
