"""Grids of sample images while training: the same prompts and noise each time, so that two grids differ by the model.

The trainer keeps no VAE and no text encoder: embeddings come from the cache, the VAE is loaded for the decoding alone.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from PIL import Image

from pipeline_lib.models.components import load_vae, pipeline_from, quiet
from pipeline_lib.models.decoding import decode
from pipeline_lib.models.parts import folder
from pipeline_lib.training import checkpoints
from pipeline_lib.training.batches import generator
from pipeline_lib.training.launch.spec import SAMPLES, TrainSpec
from pipeline_lib.training.run import Run

PROMPTS = 4
SEEDS = 4
STEPS = 25
GUIDANCE = 5.0
_SAMPLES = 2  # tells this generator's seed from those of pairs


def paint(run: Run, spec: TrainSpec) -> None:
    """Write `samples/step-<step>.png`: a row for each of the first `PROMPTS` prompts, a column for each seed."""
    if run.accelerator.is_main_process or run.policy.sharded:  # then none can run the UNet alone
        target = Path(spec.run_dir, SAMPLES, f"step-{run.step:06d}.png")
        run.policy.unet.eval()
        try:
            with torch.no_grad(), run.accelerator.autocast():
                pixels = _pixels(run, _pipeline(run, spec))
        finally:
            run.policy.unet.train()
        gc.collect()  # the VAE
        if run.accelerator.is_main_process:
            _write(_grid(pixels), target)
    run.accelerator.wait_for_everyone()


def _write(grid: Image.Image, target: Path) -> None:
    with checkpoints.writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.tmp")
        grid.save(scratch, "PNG")
        scratch.rename(target)


def _pipeline(run: Run, spec: TrainSpec) -> Any:
    absent = {part: None for part in run.family.text_parts} | dict(run.family.absent)
    vae = load_vae(spec.model, torch.float32)
    quiet()
    root = folder(spec.model, ["scheduler"])
    pipeline = pipeline_from(run.family, root, torch.float32, {**absent, "unet": run.policy.unet, "vae": vae})
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    vae.to(run.accelerator.device)
    return pipeline


def _pixels(run: Run, pipeline: Any) -> np.ndarray:
    """Images in 0..1, [prompts, seeds, height, width, 3]."""
    tables, device = run.sampler.tables, run.accelerator.device
    prompts = np.unique(tables.prompts)[:PROMPTS]
    shape = (SEEDS, *tables.moments.shape[2:])
    out = []
    for prompt in prompts:
        noise = generator(run.config.seed, int(prompt), _SAMPLES).standard_normal(shape, np.float32)
        rows = {"": prompt, "negative_": tables.empty_prompt}
        given = {f"{kind}prompt_embeds": _rows(tables.embeddings, row, device) for kind, row in rows.items()}
        if tables.pooled is not None:
            pooled = tables.pooled
            given |= {f"{kind}pooled_prompt_embeds": _rows(pooled, row, device) for kind, row in rows.items()}
        latents = pipeline(
            **given,
            latents=torch.from_numpy(noise).to(device),
            height=tables.resolution,
            width=tables.resolution,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            output_type="latent",
        ).images
        out.append(decode(pipeline, latents))
    return np.stack(out)


def _rows(table: np.ndarray, row: int, device: torch.device) -> torch.Tensor:
    one = torch.from_numpy(table[row].astype(np.float32)).to(device)
    return one.expand(SEEDS, *one.shape)


def _grid(pixels: np.ndarray) -> Image.Image:
    prompts, seeds, height, width, _ = pixels.shape
    joined = pixels.transpose(0, 2, 1, 3, 4).reshape(prompts * height, seeds * width, 3)
    return Image.fromarray((np.nan_to_num(joined) * 255).round().clip(0, 255).astype(np.uint8))
