"""Processes killed in the middle of an evaluation: the next one paints and scores what is not there yet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.core.store import Dataset, verify, writer
from pipeline_lib.evaluation import evaluate, scores
from pipeline_lib.generation import stage as generate
from pipeline_lib.generation.painter import Painter
from pipeline_lib.models.aligned import load_pipeline
from pipeline_lib.presets import preset

SHAPES = preset("shapes")
SHARD, SHARDS, MODELS = 16, 3, 2
CONFIG = replace(SHAPES.evaluate, prompts="shapes-validation", num_prompts=SHARD * SHARDS - 4, steps=4)
CHILD = "import sys; from tests.pipeline_lib.evaluation.test_kill import run; run(sys.argv[1])"
ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.timeout(300)


def noisy(root: str) -> Dataset:
    """A model: the base's UNet with noise on its output."""
    made = writer(root, "model", 1, {})
    if finished := made.finished():
        return finished
    unet = load_pipeline(None, SHAPES.base).unet
    with torch.no_grad():
        unet.conv_out.bias.add_(torch.tensor([0.1, -0.1, 0.1, -0.1]))
    folder = Path(root, "noisy")
    unet.save_pretrained(folder / "unet")
    (folder / "base.json").write_text(json.dumps(asdict(SHAPES.base)))
    return made.commit(made.write_folder("model", folder))


def run(root: str) -> Dataset:
    """The evaluation, in shards of 16 prompts."""
    generate.SHARD_IMAGES = (SHARD, SHARD)
    return evaluate(root, {"base": None, "noisy": noisy(root)}, SHAPES.base, CONFIG, ["clip"], SHAPES.weights)


def published(root: Path, stage: str) -> dict[Path, int]:
    """Modification times of a stage's shards."""
    return {path: path.stat().st_mtime_ns for path in root.glob(f"{stage}/*/part-*.parquet")}


def killed_when(root: Path, stage: str, shards: int) -> dict[Path, int]:
    """Start an evaluation and kill its process as soon as `stage` has so many shards; all that it has published."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(root)], cwd=ROOT, env=environment)
    try:
        while len(published(root, stage)) < shards:
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        child.kill()
    finally:
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert not list(root.glob("evaluation/*/manifest.json"))
    return published(root, "images") | published(root, "image-scores")


def test_a_killed_evaluation_is_continued_and_nothing_finished_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "SHARD_IMAGES", generate.SHARD_IMAGES)  # put back what `run` sets
    root = tmp_path / "killed"
    first = killed_when(root, "images", SHARDS + 1)
    assert SHARDS < len(first) < MODELS * SHARDS, "killed while the second model painted"
    second = killed_when(root, "image-scores", 2)
    assert first.items() <= second.items()
    assert len(published(root, "images")) == MODELS * SHARDS and len(second) < 2 * MODELS * SHARDS

    painted: list[int] = []
    scored: list[int] = []
    paint, score = Painter.paint, scores.score_images

    def painting(self: Painter, jobs: Any) -> list[bytes]:
        painted.append(len(jobs))
        return paint(self, jobs)

    def scoring(scorers: Any, images: Any, prompts: Any) -> Any:
        scored.append(len(images))
        return score(scorers, images, prompts)

    monkeypatch.setattr(Painter, "paint", painting)
    monkeypatch.setattr(scores, "score_images", scoring)
    resumed = run(str(root))
    assert second.items() <= (published(root, "images") | published(root, "image-scores")).items()
    assert painted == [] and len(scored) == 2 * MODELS * SHARDS - len(second)
    verify(resumed)

    whole = run(str(tmp_path / "whole"))
    assert sum(painted) == MODELS * CONFIG.num_prompts
    assert resumed.digest == whole.digest
    for one, other in zip(resumed.inputs, whole.inputs, strict=True):
        assert one["digest"] == other["digest"]
