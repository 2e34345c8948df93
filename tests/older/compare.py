"""Paint in every environment and compare the images with those of the pinned versions."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.older.environment import command, packages
from tests.older.folders import published

PAINT = Path(__file__).with_name("paint.py")
RANDOM = ("newly initialized", "not used when initializing", "will be ignored")
"""What the libraries say when weights or settings of a folder mean nothing to them."""


@dataclass(frozen=True)
class Painted:
    """The images of one environment, `<folder>-<way of loading>` -> pixels, and what its libraries complained of."""

    images: dict[str, np.ndarray]
    complaints: list[str]


def paint(site: Path, job: dict[str, object], out: Path, versions: tuple[str, str]) -> Painted:
    """Run paint.py in an environment that must have these versions."""
    out.mkdir()
    done = subprocess.run(
        command(site, PAINT),
        input=json.dumps(job | {"out": str(out)}),
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(out / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["transformers"], found["diffusers"]) == versions, found
    images = {path.stem: np.asarray(Image.open(path), np.int16) for path in out.glob("*.png")}
    return Painted(images, [line for line in done.stderr.splitlines() if any(words in line for words in RANDOM)])


def compare(folder: Path) -> tuple[dict[tuple[str, str], Painted], tuple[str, str]]:
    """(transformers, diffusers) -> what is painted with them; and the pinned pair.

    Args:
        folder: for models and images; must be empty.
    """
    sites = packages()
    oldest, *_, pinned = sites
    folders, commands = published(sites[oldest], folder)
    job: dict[str, object] = {"folders": folders, "commands": commands}
    made = {pair: paint(site, job, folder / f"images-{pair[0]}", pair) for pair, site in sites.items()}
    return made, pinned


def apart(made: dict[tuple[str, str], Painted], pinned: tuple[str, str]) -> dict[tuple[str, str], dict[str, int]]:
    """Per older pair and image: the largest difference from the pinned pair's, in grey levels."""
    wanted = made[pinned].images
    return {
        pair: {name: int(np.abs(painted.images[name] - wanted[name]).max()) for name in wanted}
        for pair, painted in made.items()
        if pair != pinned
    }


def table(differences: dict[tuple[str, str], dict[str, int]]) -> str:
    """One row per folder and way of loading, one column per older pair."""
    names = sorted({name for found in differences.values() for name in found})
    heads = [f"{transformers} / {diffusers}" for transformers, diffusers in differences]
    rows = [["transformers / diffusers", *heads]]
    rows += [[name, *(str(found[name]) for found in differences.values())] for name in names]
    return "\n".join(
        "  ".join(f"{cell:<26}" if i == 0 else f"{cell:>16}" for i, cell in enumerate(row)) for row in rows
    )
