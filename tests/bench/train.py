"""Speed and memory of a training step beside the official Diffusion-DPO recipe's.

    python -m tests.bench.train [--repeats 5] [--families sd sdxl]

The official step (reference: Diffusion-DPO's train.py) has the VAE and the text encoders in its loop, trains the whole
UNet with AdamW and keeps a second UNet as the reference. Both sides see the same pairs, in fp32, without gradient
checkpointing, on models that divide the FLOPs like the real ones (`flop_shares`: real, small). Every contestant is a
process of its own with one thread, kept alive; they take their steps in turn, and a ratio is the median over turns.
Seconds are those of the processor: what else the machine does then matters less.

Per family and adapter: `ratio`, our pairs/s over the official ones; `ratio_cached_reference`, the same once the
reference's errors are cached; `memory_ratio` and `memory_ratio_cached_reference`, our peak memory over the official,
both above the loaded libraries; `overhead`, the share of our step outside model, backward, clipping and update;
`adaptive_cost`, a step of Adaptive-DPO with three annotators over one of Diffusion-DPO. `floor`: what the FLOPs alone
say.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from tests.memory import peak_bytes

PAIRS = 8
BATCH = {"sd": 4, "sdxl": 2}
WARM_UP = 2  # steps
ADAPTERS = ("lora", "full")
RANK = 2  # of LoRA: 8 over 4, as the small models' channels

Family = Literal["sd", "sdxl"]
Adapter = Literal["lora", "full"]
Step = Callable[[], dict[str, float]]
Turns = list[dict[str, float]]


def prepare(root: Path, family: Family) -> None:
    """The small base model, a few pairs, their caches and labels, below `root`."""
    from pipeline_lib.core.config import BaseModel, EncodeConfig
    from pipeline_lib.encoding.stage import encode
    from tests.bench import train_models
    from tests.pipeline_lib.models import tiny

    side = train_models.SMALL[family].resolution
    train_models.write(family, root / "mirror/bench" / family)
    base = BaseModel(family=family, repo=f"bench/{family}", mirror=str(root / "mirror"))
    store = str(root / "store")
    pairs = tiny.ingest(store, PAIRS, side)
    encoded = encode(store, base, EncodeConfig(resolution=side, batch_size=4), pairs)
    labels = tiny.label(store, pairs)
    (root / f"{family}.json").write_text(json.dumps({"encoded": encoded.uri, "labels": labels.uri}))


def official(root: Path, family: str) -> Step:
    """One optimizer step by the official recipe, from PNG bytes and prompts."""
    import io

    import diffusers
    import numpy as np
    import torch
    from PIL import Image

    from tests.bench import train_models
    from tests.pipeline_lib.models import tiny

    folder = root / "mirror/bench" / family
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    unet, vae = pipeline.unet.train().requires_grad_(True), pipeline.vae.requires_grad_(False)
    texts = [pipeline.text_encoder] + ([pipeline.text_encoder_2] if family == "sdxl" else [])
    for text in texts:
        text.requires_grad_(False)
    reference = diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet").requires_grad_(False)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-8, weight_decay=1e-2)
    scheduler = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
    a, n = train_models.SMALL[family], BATCH[family]
    files = [tiny.png(i, (a.resolution, a.resolution)) for i in range(PAIRS)]
    extra = train_models.added(a, 2 * n)
    at = 0

    def pixels(index: int) -> Any:
        image = np.asarray(Image.open(io.BytesIO(files[index % PAIRS])))
        return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 127.5 - 1

    def step() -> dict[str, float]:
        nonlocal at
        rows, at = [at + i for i in range(n)], at + n
        images = torch.stack([pixels(i) for i in rows] + [pixels(i + 1) for i in rows])
        with torch.no_grad():
            latents = vae.encode(images).latent_dist.sample() * vae.config.scaling_factor
            prompts = [tiny.PROMPTS[i // 2 % 2] for i in rows]
            ids = pipeline.tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt").input_ids
            hidden = [
                text(ids, output_hidden_states=True).hidden_states[-1 if len(texts) == 1 else -2] for text in texts
            ]
            context = torch.cat(hidden, -1).repeat(2, 1, 1)
        noise = torch.randn_like(latents).chunk(2)[0].repeat(2, 1, 1, 1)
        timesteps = torch.randint(0, 1000, (2 * n,)).chunk(2)[0].repeat(2)
        noisy = scheduler.add_noise(latents, noise, timesteps)

        def margin(model: Any) -> Any:
            prediction = model(noisy, timesteps, context, added_cond_kwargs=extra).sample
            win, lose = (prediction - noise).pow(2).mean(dim=[1, 2, 3]).chunk(2)
            return win - lose

        policy = margin(unet)
        with torch.no_grad():
            frozen = margin(reference)
        loss = -torch.nn.functional.logsigmoid(-0.5 * 5000 * (policy - frozen)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return {}

    return step


def ours(root: Path, family: Family, adapter: Adapter, method: str, cached: bool) -> Step:
    """One optimizer step of the trainer, with the seconds it spent in the model, backward, clipping and update."""
    from pipeline_lib.core.config import BaseModel, TrainConfig
    from pipeline_lib.core.store import open_dataset
    from pipeline_lib.training import reference
    from pipeline_lib.training.launch.spec import TrainSpec
    from pipeline_lib.training.methods import check_config
    from pipeline_lib.training.run import build
    from pipeline_lib.training.step import fill_cache, optimizer_step

    config = TrainConfig(
        method=method,
        adapter=adapter,
        batch_size=BATCH[family],
        lora_rank=RANK,
        lora_alpha=RANK,
        learning_rate=1e-8,
        fixed_draws=int(cached),
    )
    base = BaseModel(family=family, repo=f"bench/{family}", mirror=str(root / "mirror"))
    data = json.loads((root / f"{family}.json").read_text())
    spec = TrainSpec(model=base, train=config, run_dir=str(root / f"run-{os.getpid()}"), **data)
    run = build(spec, check_config(config), open_dataset(spec.encoded), open_dataset(spec.labels), "bench" * 4)
    if cached:
        fill_cache(run)
    spent = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal spent
            started = time.process_time()
            result = function(*given, **named)
            spent += time.process_time() - started
            return result

        return call

    run.model = timed(run.model)
    run.optimizer.step = timed(run.optimizer.step)
    run.accelerator.backward = timed(run.accelerator.backward)
    run.accelerator.clip_grad_norm_ = timed(run.accelerator.clip_grad_norm_)
    reference.predict = timed(reference.predict)
    reference.follow = timed(reference.follow)

    def step() -> dict[str, float]:
        nonlocal spent
        spent = 0.0
        optimizer_step(run)
        return {"inside": spent}

    return step


def serve(pipe: Connection, root: Path, contestant: tuple[Any, ...]) -> None:
    """A contestant's process: builds its step, then takes one whenever asked; at the end tells its peak memory."""
    # What either side loads, at once or on first use, is loaded on both before memory is counted.
    import pandas  # noqa: F401 - by pyarrow
    import peft  # noqa: F401
    import pyarrow.dataset  # noqa: F401
    import scipy.stats  # noqa: F401 - by diffusers' schedulers
    import torch

    import pipeline_lib.training.trainer  # noqa: F401
    from tests.bench import train_models  # noqa: F401 - diffusers' and transformers' models

    torch.manual_seed(0)
    before = peak_bytes()
    kind, *given = contestant
    step = {"official": official, "ours": ours}[kind](root, *given)
    for _ in range(WARM_UP):
        step()
    pipe.send("ready")
    while pipe.recv() == "step":
        started = time.process_time()
        found = step()
        pipe.send({"seconds": time.process_time() - started, **found})
    pipe.send((peak_bytes() - before) / 2**20)


def measure(root: Path, contestants: dict[str, tuple[Any, ...]], repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds of each contestant's steps, taken in turn, and its peak memory in MiB."""
    context = multiprocessing.get_context("spawn")
    found: dict[str, dict[str, Any]] = {name: {"steps": []} for name in contestants}
    pipes, processes = {}, {}
    for name, contestant in contestants.items():
        here, there = context.Pipe()
        processes[name] = context.Process(target=serve, args=(there, root, contestant), daemon=True)
        processes[name].start()
        assert here.recv() == "ready"
        pipes[name] = here
    for _ in range(repeats):
        for name, pipe in pipes.items():
            pipe.send("step")
            found[name]["steps"].append(pipe.recv())
    for name, pipe in pipes.items():
        pipe.send("end")
        found[name]["memory"] = pipe.recv()
        processes[name].join()
    return found


def compare(root: Path, family: str, adapter: str, repeats: int) -> dict[str, float]:
    """Figures of our trainer with one adapter; the official step trains the whole UNet in any case."""
    plain = ("ours", family, adapter, "diffusion-dpo", False)
    cached = ("ours", family, adapter, "diffusion-dpo", True)
    adaptive = ("ours", family, adapter, "adaptive-dpo", False)
    found = measure(root, {"official": ("official", family), "plain": plain, "cached": cached}, repeats)
    beside = measure(root, {"plain": plain, "adaptive": adaptive}, repeats)  # apart: fewer models in memory at a time
    steps = {name: found[name]["steps"] for name in found}

    def over(above: Turns, below: Turns) -> float:
        return round(statistics.median(a["seconds"] / b["seconds"] for a, b in zip(above, below, strict=True)), 3)

    def seconds(name: str) -> float:
        return round(statistics.median(s["seconds"] for s in steps[name]), 3)

    return {
        "ratio": over(steps["official"], steps["plain"]),
        "ratio_cached_reference": over(steps["official"], steps["cached"]),
        "memory_ratio": round(found["plain"]["memory"] / found["official"]["memory"], 3),
        "memory_ratio_cached_reference": round(found["cached"]["memory"] / found["official"]["memory"], 3),
        "overhead": round(statistics.median(1 - s["inside"] / s["seconds"] for s in steps["plain"]), 4),
        "adaptive_cost": over(beside["adaptive"]["steps"], beside["plain"]["steps"]),
        "seconds": seconds("plain"),
        "official_seconds": seconds("official"),
        "memory_mb": round(found["plain"]["memory"]),
        "official_memory_mb": round(found["official"]["memory"]),
    }


def floors(flops: dict[str, float]) -> dict[str, float]:
    """Ratios by FLOPs alone, of the small model: a backward pass costs two forward ones, one with frozen weights."""
    encode, unet = flops["vae"] + flops["text"], flops["unet"]
    whole = encode + 4 * unet
    units = {"lora": 3, "lora_cached": 2, "full": 4, "full_cached": 3}
    return {name: round(whole / (n * unet), 2) for name, n in units.items()}


def main() -> None:
    from tests.bench import train_models

    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--families", nargs="+", choices=sorted(train_models.SMALL), default=sorted(train_models.SMALL)
    )
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    result: dict[str, Any] = {"flop_shares": {}, "floor": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for family in given.families:
            counts = {size: train_models.forward_flops(models[family]) for size, models in train_models.SIZES.items()}
            rounded = {size: {k: round(v, 4) for k, v in train_models.shares(c).items()} for size, c in counts.items()}
            result["flop_shares"][family] = rounded
            result["floor"][family] = floors(counts["small"])
            prepare(Path(scratch), family)
            for adapter in ADAPTERS:
                result[f"{family}_{adapter}"] = compare(Path(scratch), family, adapter, given.repeats)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
