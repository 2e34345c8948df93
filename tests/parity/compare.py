"""Runs the two sides for each model and compares what they wrote."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from tests.parity.cases import write_cases
from tests.parity.environment import FOLDER, ROOT, environment

PIXELS = 1e-6
SCORES = 1e-4
THREADS = os.environ.get("PARITY_THREADS", str(os.cpu_count() or 1))


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        scorer: its name in SCORERS.
        checkpoint: what the oracle is asked to write; rows with the same one follow each other.
        model: the checkpoint's architecture.
        original: whose code is the other side.
    """

    scorer: str
    checkpoint: str
    model: str
    original: str


ROWS = [
    Row("hpsv2", "hpsv2", "ViT-H/14", "hpsv2 1.2.0, resize(antialias=False)"),
    Row("hpsv2-antialias", "hpsv2", "ViT-H/14", "hpsv2 1.2.0 with torchvision 0.28"),
    Row("hpsv2.0", "hpsv2.0", "ViT-H/14", "hpsv2 1.2.0, resize(antialias=False)"),
    Row("pickscore", "pickscore", "ViT-H/14", "transformers 4.38.2, model card"),
    Row("clip", "clip", "ViT-L/14", "openai-clip 1.0.1 by image-reward 1.5"),
    Row("aesthetic", "clip", "ViT-L/14, MLP", "openai-clip 1.0.1 by image-reward 1.5"),
    Row("imagereward", "imagereward", "ViT-L/16, BERT-base", "image-reward 1.5"),
]


@dataclass(frozen=True)
class Result:
    """What a comparison found.

    Attributes:
        images: how many of which the pixels were compared.
        asked: how many were scored.
        pixels: largest difference of the tensors that the models see.
        scores: largest difference of a score relative to the original's.
        low, high: range of the original's scores.
    """

    row: Row
    images: int
    asked: int
    pixels: float
    scores: float
    low: float
    high: float

    @property
    def agrees(self) -> bool:
        """Also False where scores hardly depend on the image, because agreement would mean nothing then."""
        telling = self.high - self.low > 100 * SCORES * max(abs(self.low), abs(self.high))
        return self.pixels <= PIXELS and self.scores <= SCORES and telling


def compare(scorers: Sequence[str] = (), work: Path | None = None) -> list[Result]:
    """Compare these scorers (all when empty) with the originals.

    Args:
        scorers: of the rows' scorers.
        work: where checkpoints lie while they are needed; .state/parity by default.

    Raises:
        ValueError: a scorer that is not compared.
        RuntimeError, subprocess.CalledProcessError: the oracle's environment cannot be built, or a side failed.
    """
    unknown = set(scorers) - {row.scorer for row in ROWS}
    if unknown:
        raise ValueError(f"no comparison for {', '.join(sorted(unknown))}")
    rows = [row for row in ROWS if not scorers or row.scorer in scorers]
    python = environment()
    results = []
    for checkpoint, same in groupby(rows, lambda row: row.checkpoint):
        with tempfile.TemporaryDirectory(dir=work or FOLDER.parent) as folder:
            results += _compare(checkpoint, list(same), python, Path(folder))
    return results


def _compare(checkpoint: str, rows: Sequence[Row], python: Path, folder: Path) -> list[Result]:
    """Everything that is compared on one checkpoint."""
    start = time.monotonic()
    mirror, cases = folder / "mirror", write_cases(folder / "cases")
    mirror.mkdir()
    names = [row.scorer for row in rows]
    _run([python, "tests/parity/oracle", checkpoint, mirror, cases, folder / "oracle.npz"], mirror)
    _run([sys.executable, "-m", "tests.parity.ours", mirror, cases, folder / "ours.npz", *names], mirror)
    with np.load(folder / "ours.npz") as ours, np.load(folder / "oracle.npz") as oracle:
        results = [result(row, ours, oracle) for row in rows]
    print(f"{', '.join(names)}: {time.monotonic() - start:.0f} s", flush=True)
    return results


def _run(command: Sequence[str | Path], mirror: Path) -> None:
    """Run one side, without network: what the originals would download lies in a hub cache inside `mirror`."""
    offline = {"HF_HOME": str(mirror / "cache"), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    environ = {**os.environ, **offline, "OMP_NUM_THREADS": THREADS, "CUDA_VISIBLE_DEVICES": ""}
    environ.pop("PYTHONPATH", None)  # each side finds its own packages only
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        done.check_returncode()


def result(row: Row, ours: Mapping[str, np.ndarray], original: Mapping[str, np.ndarray]) -> Result:
    """Compare the arrays "<scorer>/pixels" (images, 3, h, w) and "<scorer>/scores" (asked,) of the two sides."""
    (own_pixels, own_scores), (pixels, scores) = (
        (side[f"{row.scorer}/pixels"], side[f"{row.scorer}/scores"]) for side in (ours, original)
    )
    if own_pixels.shape != pixels.shape or own_scores.shape != scores.shape:
        raise ValueError(
            f"{row.scorer}: {own_pixels.shape} and {own_scores.shape} beside {pixels.shape}, {scores.shape}"
        )
    return Result(
        row,
        len(pixels),
        len(scores),
        float(np.abs(own_pixels - pixels).max()),
        float((np.abs(own_scores - scores) / np.abs(scores)).max()),
        float(scores.min()),
        float(scores.max()),
    )


def table(results: Sequence[Result]) -> str:
    """One line per comparison, in columns."""
    head = ("scorer", "model", "beside", "images", "pixels differ", "scored", "range", "scores differ", "verdict")
    lines = [
        (
            result.row.scorer,
            result.row.model,
            result.row.original,
            str(result.images),
            f"{result.pixels:.1e}",
            str(result.asked),
            f"{result.low:.3f} … {result.high:.3f}",
            f"{result.scores:.1e}",
            "agrees" if result.agrees else "DIFFERS",
        )
        for result in results
    ]
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    rows = [head, tuple("-" * width for width in widths), *lines]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*shown, f"allowed: pixels {PIXELS:.0e}, scores {SCORES:.0e} of the original's score"])
