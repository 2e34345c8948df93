"""Rebuild the built-in world from nothing, component by component; finished components are not made again."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline_lib.shapes.build import components
from pipeline_lib.shapes.build.calibration import measure_guidance, measure_held_out, measure_pairs
from pipeline_lib.shapes.build.components import Build, Metrics
from pipeline_lib.shapes.build.preference_data import write_held_out, write_pairs

_LOG = logging.getLogger(__name__)


def pairs(build: Build) -> Metrics:
    """The shipped comparisons and their truth."""
    return write_pairs(build.out, components.gallery(build))


def held_out(build: Build) -> Metrics:
    """Comparisons on test captions, for measuring what a model has learned to prefer."""
    return write_held_out(build.out, components.held_out_gallery(build))


def calibration(build: Build) -> Metrics:
    """The figures that CALIBRATION.md discusses."""
    return {
        "pairs": measure_pairs(build.out, components.gallery(build)),
        "held_out": measure_held_out(build.out, build.work / "held_out.npz"),
        "guidance": measure_guidance(build.out),
    }


COMPONENTS: dict[str, Callable[[Build], Metrics]] = {
    "tokenizers": components.tokenizers,
    "vae": components.vae,
    "clip": components.clip,
    "base": components.base,
    "base-xl": components.base_xl,
    "pickscore": components.pickscore,
    "hpsv2": components.hpsv2,
    "aesthetic": components.aesthetic,
    "imagereward": components.imagereward,
    "pairs": pairs,
    "held-out": held_out,
    "calibration": calibration,
}
"""Name -> how it is made, in order: each may read what earlier ones wrote."""


def run(build: Build, only: Sequence[str] = ()) -> None:
    """Make every component that `<out>/build.json` does not list yet; those in `only` are made again."""
    unknown = [name for name in only if name not in COMPONENTS]
    if unknown:
        raise ValueError(f"unknown components {', '.join(unknown)}; known: {', '.join(COMPONENTS)}")
    build.work.mkdir(parents=True, exist_ok=True)
    for name, make in COMPONENTS.items():
        record = load_record(build.out)
        if name in only if only else name not in record:
            started = time.perf_counter()
            metrics = make(build)
            record = load_record(build.out)
            record[name] = {**metrics, "seconds": round(time.perf_counter() - started, 1)}
            build.out.mkdir(parents=True, exist_ok=True)
            (build.out / "build.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            _LOG.info("%s: done in %s s", name, record[name]["seconds"])


def load_record(out: Path) -> dict[str, Metrics]:
    """What `<out>/build.json` says about finished components."""
    path = out / "build.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
