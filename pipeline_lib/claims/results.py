"""What a claim's sweep left in the project: the outcomes its findings and figures need, and how they came about.

One folder `pipeline_lib/claims/outcomes/<claim>-<preset>/` per claim and preset: `outcomes.parquet`, `run.json`
(written last) and the figures that `document` draws from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipeline_lib.core.errors import ConfigError
from pipeline_lib.sweeps.claim import Claim

FOLDER = Path(__file__).parent / "outcomes"
OUTCOMES, RUN = "outcomes.parquet", "run.json"
COLUMNS = ("setting", "seed", "measure", "unit", "value")
FIRST = "shapes"
"""The preset whose results come first."""


@dataclass(frozen=True)
class Machine:
    """What ran a sweep, and for how long: all its runs together, if it was interrupted."""

    cores: int
    gpu: str | None
    seconds: float


@dataclass(frozen=True)
class Result:
    """One claim's results on one preset."""

    folder: Path
    preset: str
    rules: str
    """`Claim.rules` of the claim file that was run."""
    digest: str
    """Of the sweep's dataset."""
    image_seeds: tuple[int, ...]
    prompts: str
    """The prompt set's name."""
    judged_on: int
    """The number of its prompts that models were judged on."""
    machine: Machine
    outcomes: pl.DataFrame


def results(claim: Claim) -> list[Result]:
    """The claim's results, those of the built-in world first.

    Raises:
        ConfigError: a folder that cannot be read.
    """
    found = [
        read(folder)
        for folder in sorted(FOLDER.glob(f"{claim.name}-*"))
        if (folder / RUN).exists() and _belongs(folder, claim)
    ]
    return sorted(found, key=lambda one: (one.preset != FIRST, one.preset))


def read(folder: Path) -> Result:
    """One folder's results; raises ConfigError when it cannot be read."""
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
        return Result(
            folder=folder,
            preset=run["preset"],
            rules=run["rules"],
            digest=run["dataset"],
            image_seeds=tuple(run["image_seeds"]),
            prompts=run["prompts"],
            judged_on=run["judged_on"],
            machine=Machine(**run["machine"]),
            outcomes=pl.read_parquet(folder / OUTCOMES, columns=list(COLUMNS)),
        )
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise ConfigError(
            f"{folder.name}: its results cannot be read ({type(error).__name__}: {error}).",
            "Remove the folder and run the claim again: what is in the store is not computed again.",
        ) from error


def keep(claim: Claim, outcomes: pl.DataFrame, report: Mapping[str, Any], digest: str, machine: Machine) -> bool:
    """Keep a finished sweep's results, unless those of the same dataset and rules are kept already.

    Args:
        outcomes: of the sweep's dataset; measures that neither findings nor figures use are left out.
        report: its report.json.
        digest: the dataset's.

    Returns:
        Whether anything was written.
    """
    folder = FOLDER / f"{claim.name}-{report['preset']}"
    if (folder / RUN).exists():
        old = read(folder)
        if (old.digest, old.rules) == (digest, claim.rules) and set(claim.shown) <= set(old.outcomes["measure"]):
            return False
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN).unlink(missing_ok=True)
    kept = outcomes.filter(pl.col("measure").is_in(claim.shown)).select(COLUMNS)
    kept = kept.sort("measure", "setting", "seed", "unit").with_columns(pl.col("value").cast(pl.Float32))
    kept.write_parquet(folder / OUTCOMES, compression="zstd", compression_level=19)
    run = {
        "claim": claim.name,
        "preset": report["preset"],
        "rules": claim.rules,
        "dataset": digest,
        "image_seeds": list(report["image_seeds"]),
        "prompts": report["prompts"]["name"],
        "judged_on": report["prompts"]["used"],
        "machine": asdict(machine),
    }
    (folder / RUN).write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    return True


def _belongs(folder: Path, claim: Claim) -> bool:
    """`a-b-shapes` may be of claim `a` and preset `b-shapes`, or of claim `a-b`."""
    try:
        return bool(json.loads((folder / RUN).read_text(encoding="utf-8"))["claim"] == claim.name)
    except (ValueError, KeyError, TypeError):
        return True
