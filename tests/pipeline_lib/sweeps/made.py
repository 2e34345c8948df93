"""A sweep's report with plausible numbers, made without a sweep."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pipeline_lib.presets import preset

SHAPES = preset("shapes")
SEEDS = (0, 1, 2)
SETTINGS = {"clean": 0.0, "flip10": -0.02, "flip20": -0.05, "flip30": -0.11}
"""Name -> what it loses of the win rate."""
MEASURES = {
    "win/true": ("share of prompts won against the base by the known truth; ties count half", 0.5, True, 0.72),
    "win/clip": ("share of prompts won against the base by CLIP; ties count half", 0.5, True, 0.61),
    "gain/true": ("gain over the base, in standard deviations of the base's scores", 0.0, False, 0.4),
    "diversity": ("mean distance of a prompt's images, minus the base's", 0.0, False, -0.02),
    "train/u_auroc": ("area under the curve of u for flipped pairs", 0.5, False, 0.8),
}
"""Name -> words, null, whether it is a share, and the first setting's value."""


def sweep_report(
    names: dict[str, float] = SETTINGS,
    claim: bool = True,
    reference: str | None = "clean",
    seeds: tuple[int, ...] = SEEDS,
) -> dict[str, Any]:
    """The content of a `report.json`. The last setting has no `train/u_auroc`."""
    rng = np.random.default_rng(0)
    settings = []
    for number, (name, loss) in enumerate(names.items()):
        estimates, against = {}, {}
        for measure, (_, _, _, start) in MEASURES.items():
            if measure == "train/u_auroc" and number == len(names) - 1:
                continue
            runs = start + loss + 0.012 * rng.normal(size=len(seeds))
            point = float(runs.mean())
            estimates[measure] = {
                "interval": [point, point - 0.03, point + 0.03],
                "by_seed": {str(seed): float(run) for seed, run in zip(seeds, runs, strict=True)},
            }
            low = 0.001 if loss <= -0.05 else 0.3
            against[measure] = {"difference": [loss, loss - 0.04, loss + 0.04], "p": low, "p_holm": min(1.0, 3 * low)}
        train = replace(SHAPES.methods["dpo"].train, flip_rate=abs(loss))
        settings.append(
            {
                "name": name,
                "method": "dpo",
                "parameters": {"method": "dpo", "recipe": name, "train": {"flip_rate": abs(loss)}},
                "train": asdict(train),
                "estimates": estimates,
                "against": None if reference is None or name == reference else against,
                "models": {str(seed): f"model/{number}{seed}abcdef" for seed in seeds},
            }
        )
    steps = list(range(1, 401))
    return {
        "title": "Label flips degrade Diffusion-DPO",
        "claim": {
            "title": "Label flips degrade Diffusion-DPO",
            "sources": ["Adaptive-DPO (arXiv 2503.16921), Table 1"],
            "says": "Flipped labels lower the win rate, the more the more are flipped.",
            "miniature": "Flips can be set exactly here; the size of the loss is not that of SD1.5.",
        }
        if claim
        else None,
        "preset": "shapes",
        "seeds": list(seeds),
        "image_seeds": [0, 1],
        "reference": reference,
        "prompts": {"name": "shapes-validation", "digest": "0" * 16, "used": 256, "leaked": []},
        "judging": asdict(SHAPES.evaluate),
        "scorers": {"clip": {"version": 1, "weights": "abc"}},
        "measures": {
            name: {"words": words, "null": null, "share": share} for name, (words, null, share, _) in MEASURES.items()
        },
        "settings": settings,
        "findings": findings() if claim else [],
        "curves": {
            name: {
                "loss": [[step, 0.69 * math.exp(-step / (300 - 900 * loss))] for step in steps],
                "implicit_accuracy": [[step, 0.5 + (0.3 + loss) * (1 - math.exp(-step / 80))] for step in steps],
            }
            for name, loss in names.items()
        },
        "statistics": {
            "interval": "95% t interval from prompts and training seeds",
            "p_holm": "Holm over the settings",
        },
        "lineage": [{"uri": "sweep/0123", "digest": "a" * 64}, {"uri": "ingest/4567", "digest": "b" * 64}],
    }


def findings() -> list[dict[str, Any]]:
    """One of each verdict."""
    rule = "Reproduced if the whole 95% interval is above the first threshold, not reproduced if below the second."
    return [
        {
            "name": "degrades",
            "says": "30% flips cost win rate",
            "verdict": "reproduced",
            "contrasts": [contrast({"clean": 1, "flip30": -1}, [0.11, 0.07, 0.15], "reproduced")],
            "rule": rule,
        },
        {
            "name": "monotone",
            "says": "Each further 10% of flips costs win rate",
            "verdict": "undecided",
            "contrasts": [
                contrast({"clean": 1, "flip10": -1}, [0.02, -0.02, 0.06], "undecided"),
                contrast({"flip20": 1, "flip30": -1}, [0.06, 0.02, 0.1], "reproduced"),
            ],
            "rule": rule,
        },
        {
            "name": "useless",
            "says": "With 30% flips nothing is left over the base",
            "verdict": "not reproduced",
            "contrasts": [contrast({"flip30": 1}, [0.61, 0.58, 0.64], "not reproduced", above=0.7, below=0.7)],
            "rule": rule,
        },
    ]


def contrast(
    of: dict[str, int], interval: list[float], verdict: str, above: float = 0.0, below: float = 0.03
) -> dict[str, Any]:
    return {
        "measure": "win/true",
        "of": of,
        "above": above,
        "below": below,
        "interval": interval,
        "standard_error": 0.01,
        "df": 9.0,
        "p": 0.004,
        "verdict": verdict,
    }
