"""Speed and memory of label recipes beside the same recipes in pandas.

    python -m tests.bench.label [--pairs 1000000] [--repeats 3]

A million pairs, five scorers. Both sides read the same Parquet, join pairs with scores, label and write Parquet, on
two threads, and give the same labels, which is checked. Each measurement is a process of its own; the clock runs from
the first file opened, not from the imports. Medians of `repeats`, taken in turn.

`ratio`: pandas' seconds over ours, the smaller of the two recipes; ours also make the report. `peak_mb`: the larger
peak memory of ours. `growth_4x`: seconds of ours for four times the pairs over those for the pairs, the larger of the
two recipes.
`bad_recipe_s`: from starting Python to the error message for a recipe with an unknown scorer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.memory import peak_bytes

RECIPES = ("voting5", "dedpo25")
THREADS = "2"


def measure(side: str, recipe: str, world: Path) -> dict[str, float]:
    """Seconds and peak memory of one recipe in this process."""
    import pyarrow as pa

    from pipeline_lib.labels import recipe as stage
    from tests.bench import label_data, label_pandas

    pa.set_cpu_count(int(THREADS))
    given = label_data.open_world(world)
    with tempfile.TemporaryDirectory(dir=world) as out:
        started = time.perf_counter()
        if side == "pandas":
            label_pandas.RECIPES[recipe](given, Path(out, "labels.parquet"))
        else:
            stage.build_labels(out, recipe, given.pairs, given.scores)
        return {"seconds": time.perf_counter() - started, "peak_mb": peak_bytes() / 2**20}


def check(recipe: str, world: Path) -> dict[str, float]:
    """Assert that both sides label the same pairs the same way."""
    import pandas as pd

    from pipeline_lib.labels.recipe import build_labels
    from tests.bench import label_data, label_pandas

    given = label_data.open_world(world)
    with tempfile.TemporaryDirectory(dir=world) as out:
        ours = build_labels(out, recipe, given.pairs, given.scores).scan().collect()
        label_pandas.RECIPES[recipe](given, Path(out, "labels.parquet"))
        theirs = pd.read_parquet(Path(out, "labels.parquet"))
    assert ours["pair_id"].to_list() == theirs["pair_id"].to_list()
    difference = abs(ours["target"].to_numpy() - theirs["target"].to_numpy()).max()
    assert difference < 1e-6, f"{recipe}: targets differ by up to {difference}"
    return {"pairs": len(ours)}


def child(*arguments: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.label", "--measure", *arguments]
    environment = {**os.environ, "POLARS_MAX_THREADS": THREADS, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def bad_recipe_seconds() -> float:
    """Of a process that is given a recipe with an unknown scorer."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "pipeline_lib.labels", "explain", "[{vote: [human, pickscor]}]"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "Step 1 (vote)" in result.stderr, result.stderr
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        side, recipe, world = given.measure
        print(json.dumps(check(recipe, Path(world)) if side == "check" else measure(side, recipe, Path(world))))
        return
    from tests.bench.label_data import make_world

    with tempfile.TemporaryDirectory() as scratch:
        once, four = Path(scratch, "once"), Path(scratch, "four")
        make_world(str(once), given.pairs)
        make_world(str(four), 4 * given.pairs)
        found: dict[str, float] = {}
        ratios, growths, peaks = [], [], []
        for recipe in RECIPES:
            child("check", recipe, str(once))
            runs = [
                (
                    child("ours", recipe, str(once)),
                    child("pandas", recipe, str(once)),
                    child("ours", recipe, str(four)),
                )
                for _ in range(given.repeats)
            ]
            ours, pandas, larger = (statistics.median(run[i]["seconds"] for run in runs) for i in range(3))
            peaks.append(max(run[0]["peak_mb"] for run in runs))
            ratios.append(pandas / ours)
            growths.append(larger / ours)
            found |= {
                f"{recipe}_s": round(ours, 2),
                f"{recipe}_pandas_s": round(pandas, 2),
                f"{recipe}_4x_s": round(larger, 2),
                f"{recipe}_peak_mb": round(peaks[-1]),
                f"{recipe}_pandas_peak_mb": round(max(run[1]["peak_mb"] for run in runs)),
            }
        bad = statistics.median(bad_recipe_seconds() for _ in range(given.repeats))
    summary = {"bad_recipe_s": bad, "ratio": min(ratios), "growth_4x": max(growths)}
    rounded = {name: round(value, 2) for name, value in summary.items()}
    print(json.dumps({"pairs": given.pairs, "scorers": 5, **found, "peak_mb": round(max(peaks)), **rounded}))


if __name__ == "__main__":
    main()
