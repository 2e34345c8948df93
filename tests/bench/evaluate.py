"""Speed of an evaluation beside a plain loop over the diffusers pipeline.

    python -m tests.bench.evaluate [--prompts 16] [--checkpoints 3]

Checkpoints are judged one after the other against one base on the same prompts. Ours is `evaluation.evaluate`, from
the files of the models to the report. The plain loop is what scripts do: load the pipeline of the base and that of the
checkpoint, paint each prompt with either, score every image with every scorer's official loop (`score_official`).
Both start from the same noise, sides take turns, checkpoint by checkpoint, in one process with one thread, which has
done a small evaluation before. Seconds are those of the processor: what else the machine does then matters less.

SD 1.5's architecture with channels by 4 at 128 px (`train_models`), 10 steps of DPM-Solver++, and five scorers with
widths by 8 and depths by 4 (`score_models`); weights are random.

`ratio`: seconds of the plain loop over ours. `passes_ratio`: what follows from painting the base once alone.
`compute_share`: the share of our seconds that the UNet, the VAE and the scorers' towers take; the rest is text,
sampler, PNG, storage, loading, statistics and the report. Most of the rest is the same for any number of prompts (with
8, the share is .84), and real prompt sets are longer than this one. `max_difference`: between the two sides' images,
in grey levels; the sides' batches round differently.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SCORERS = ("clip", "pickscore", "hpsv2", "aesthetic", "imagereward")
STEPS, GUIDANCE = 10, 7.5
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "black")
SHAPES = ("circle", "square", "ring", "star", "cross")


class Stopwatch:
    """Processor seconds of the calling thread within the functions it wraps; calls within calls count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside = False

    def wrap(self, owner: Any, name: str) -> None:
        """Replace `owner.name` by a function that does the same and is timed."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            if self._inside:
                return function(*given, **named)
            self._inside, started = True, time.thread_time()
            try:
                return function(*given, **named)
            finally:
                self._inside = False
                self.seconds += time.thread_time() - started

        setattr(owner, name, timed)


def prepare(root: Path, checkpoints: int) -> list[Any]:
    """The base, the scorers' weights, and model datasets whose UNets are the base's with some noise."""
    import torch

    from pipeline_lib.core.store import writer
    from tests.bench import score_models, train_models

    mirror = root / "mirror"
    train_models.write("sd", mirror / "bench/sd")
    score_models.write_mirror(mirror, score_models.REDUCED)
    found = []
    for number in range(checkpoints):
        folder = root / f"checkpoint-{number}"
        torch.manual_seed(0)
        unet = train_models.unet(train_models.SMALL["sd"])
        torch.manual_seed(number + 1)
        with torch.no_grad():
            for weight in unet.parameters():
                weight.add_(0.02 * weight.std(correction=0) * torch.randn_like(weight))
        unet.save_pretrained(folder / "unet")
        (folder / "base.json").write_text(json.dumps(asdict(base_model(root))))
        dataset = writer(str(root / "store"), "model", 1, {"number": number})
        found.append(dataset.commit(dataset.write_folder("model", folder)))
    return found


def base_model(root: Path) -> Any:
    from pipeline_lib.core.config import BaseModel

    return BaseModel(family="sd", repo="bench/sd", mirror=str(root / "mirror"))


def settings(prompts: Path, steps: int) -> Any:
    """What both sides paint."""
    from pipeline_lib.core.config import EvaluateConfig
    from tests.bench.train_models import SMALL

    return EvaluateConfig(
        prompts=str(prompts),
        scheduler="dpmsolver++",
        steps=steps,
        guidance=GUIDANCE,
        resolution=SMALL["sd"].resolution,
    )


def ours(root: Path, prompts: Path, model: Any, steps: int = STEPS) -> dict[str, list[np.ndarray]]:
    """Evaluate a checkpoint; the images of both models, in the order of the prompts."""
    from pipeline_lib.evaluation import evaluate

    models = {"base": None, "checkpoint": model}
    config = settings(prompts, steps)
    done = evaluate(str(root / "store"), models, base_model(root), config, SCORERS, str(root / "mirror"))
    table = done.scan().collect()
    return {
        name: [np.asarray(Image.open(io.BytesIO(png))) for png in table.filter(table["model"] == name)["image"]]
        for name in models
    }


def plain(root: Path, prompts: Path, model: Any, steps: int = STEPS) -> dict[str, list[np.ndarray]]:
    """Paint and score one image after the other; the images."""
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel

    from pipeline_lib.generation.painter import initial_noise
    from tests.bench.score_official import LOOPS

    loops = [LOOPS[name](root / "mirror", "cpu", torch.float32) for name in SCORERS]
    side = settings(prompts, steps).resolution
    found: dict[str, list[np.ndarray]] = {}
    for name in ("base", "checkpoint"):
        pipeline = StableDiffusionPipeline.from_pretrained(root / "mirror/bench/sd")
        if name == "checkpoint":
            pipeline.unet = UNet2DConditionModel.from_pretrained(model.local("model/unet"))
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
            pipeline.scheduler.config, algorithm_type="dpmsolver++"
        )
        pipeline.set_progress_bar_config(disable=True)
        found[name] = []
        for prompt in prompts.read_text().splitlines():
            noise = initial_noise(prompt, 0, (4, side // 8, side // 8))[None]
            image = pipeline(prompt, num_inference_steps=steps, guidance_scale=GUIDANCE, latents=noise).images[0]
            file = io.BytesIO()
            image.save(file, "PNG")
            with torch.no_grad():
                for loop in loops:
                    loop(prompt, [file.getvalue()])
            found[name].append(np.asarray(image))
    return found


def measure(root: Path, prompts: int, checkpoints: int) -> dict[str, Any]:
    """The benchmark's figures."""
    import diffusers

    from pipeline_lib.scoring import engine

    texts = [f"a {colour} {shape}" for shape in SHAPES for colour in COLOURS]
    many, few = root / "prompts.txt", root / "few.txt"
    many.write_text("\n".join(texts[:prompts]))
    few.write_text("\n".join(texts[-2:]))
    models = prepare(root, checkpoints)
    for side in (ours, plain):
        side(root, few, models[0], steps=1)
    inside = Stopwatch()
    inside.wrap(diffusers.UNet2DConditionModel, "forward")
    inside.wrap(diffusers.AutoencoderKL, "decode")
    inside.wrap(engine, "score_batch")
    seconds = {"ours": 0.0, "plain": 0.0}
    compute, difference = 0.0, 0
    for model in models:
        images = {}
        for name, run in (("ours", ours), ("plain", plain)):
            before, started = inside.seconds, time.process_time()
            images[name] = run(root, many, model)
            seconds[name] += time.process_time() - started
            compute += inside.seconds - before if name == "ours" else 0.0
        for which in ("base", "checkpoint"):
            for one, other in zip(images["ours"][which], images["plain"][which], strict=True):
                difference = max(difference, int(np.abs(one.astype(int) - other).max()))
    assert difference <= 1, f"the two sides painted other images: {difference} grey levels"
    painted = {"ours": (checkpoints + 1) * prompts, "plain": 2 * checkpoints * prompts}
    return {
        "ratio": round(seconds["plain"] / seconds["ours"], 3),
        "passes_ratio": round(painted["plain"] / painted["ours"], 3),
        "compute_share": round(compute / seconds["ours"], 4),
        "max_difference": difference,
        "seconds": round(seconds["ours"], 2),
        "plain_seconds": round(seconds["plain"], 2),
        "seconds_per_image": round(seconds["ours"] / painted["ours"], 3),
        "plain_seconds_per_image": round(seconds["plain"] / painted["plain"], 3),
        "images": painted["ours"],
        "plain_images": painted["plain"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--checkpoints", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(measure(Path(scratch), given.prompts, given.checkpoints)))


if __name__ == "__main__":
    main()
