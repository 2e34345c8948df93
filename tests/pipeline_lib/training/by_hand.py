"""The DPO logit of one pair written out with diffusers' UNets, as the formula has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from pipeline_lib.core.config import BaseModel
from pipeline_lib.models.components import folder, load_schedule
from pipeline_lib.training.batches import generator
from pipeline_lib.training.tables import Tables


def logits_by_hand(
    base: BaseModel, policy: Path, tables: Tables, row: int, steps: Sequence[int], seed: int, beta: float
) -> list[float]:
    """z of the pair in a row of `tables` at every timestep: errors of the UNet in `policy` and of the base's, each
    image for itself, both from the posterior's mean with the same noise."""
    reference = UNet2DConditionModel.from_pretrained(folder(base, ["unet"]) / "unet").eval()
    trained = UNet2DConditionModel.from_pretrained(policy).eval()
    schedule = load_schedule(base)
    clean = torch.from_numpy(tables.moments[tables.images[row], 0].astype(np.float32)) * tables.scaling_factor
    text = torch.from_numpy(tables.embeddings[tables.prompts[[row]]].astype(np.float32))
    found = []
    for place, step in enumerate(steps):
        draw = generator(seed, int(tables.keys[row]), place).standard_normal(clean.shape[1:], np.float32)
        noise = torch.from_numpy(draw)
        alpha = schedule.alphas_cumprod[step]
        wanted = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean if schedule.prediction_type != "epsilon" else noise
        errors = []
        for unet in (trained, reference):
            with torch.no_grad():
                noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
                predicted = [unet(noisy[[k]], step, text)[0][0] for k in (0, 1)]
            target = [wanted if wanted.ndim == 3 else wanted[k] for k in (0, 1)]
            errors.append([((target[k] - predicted[k]) ** 2).mean().item() for k in (0, 1)])
        (p0, p1), (r0, r1) = errors
        found.append(-0.5 * beta * ((p0 - p1) - (r0 - r1)))
    return found
