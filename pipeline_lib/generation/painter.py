"""A loaded model that turns (prompt, seed) into PNG images.

The initial noise is a function of (prompt, seed) alone, never of batch, order or process, so two models given the same
prompt and seed start from the same noise and differ by their weights only.

On the CPU the pixels are a function of model, prompt and seed as well, bit by bit. Convolutions and matrix products
round differently for other numbers of rows and of threads, but not for another place in the batch or other neighbours.
So every batch has the same number of images, whatever `EvaluateConfig.batch_size` says, an incomplete one is filled
up, and one thread computes it: several workers use several cores. On CUDA the batches are those of the configuration.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipeline_lib.core.config import BaseModel, EvaluateConfig
from pipeline_lib.core.digest import text_id
from pipeline_lib.core.errors import EvaluationError
from pipeline_lib.core.store import Dataset
from pipeline_lib.data.prompts import normalise_prompt
from pipeline_lib.generation.embeddings import Embedding, Texts, conditions
from pipeline_lib.models.origin import model_folder

if TYPE_CHECKING:
    import torch

CPU_IMAGES = 16
CPU_PIXELS = 1 << 17
"""A CPU gains nothing from batches larger than its caches: 16 images of 64 x 64 pixels, 8 of 128 x 128, 1 of 512."""
CPU_WORKERS = 8
"""At most: each has activations of its own in memory."""
PNG_THREADS = 4


@dataclass(frozen=True)
class Painter:
    """A diffusers pipeline on its device, with the sampling settings and the prompts' embeddings."""

    pipeline: Any
    config: EvaluateConfig
    texts: Texts

    def paint(self, jobs: Sequence[tuple[str, int]]) -> list[bytes]:
        """One PNG image per (prompt, seed); several threads may paint at once.

        Raises:
            EvaluationError: pixels are not finite.
        """
        from pipeline_lib.core.threads import one_thread  # loads torch

        own = copy.copy(self.pipeline)  # shares the weights; a scheduler counts its steps
        own.scheduler = make_scheduler(self.config.scheduler, own.scheduler.config)
        on_cpu = own.device.type == "cpu"
        size = images_at_once(self.config, own.device.type)
        files = []
        with ThreadPoolExecutor(PNG_THREADS, "png") as encoders, one_thread(own.device.type):
            embeddings = self.texts.of(own, ["", *(prompt for prompt, _ in jobs)])
            for start in range(0, len(jobs), size):
                batch = jobs[start : start + size]
                full = [*batch, *[batch[-1]] * (size - len(batch))] if on_cpu else batch
                pixels = _pixels(own, full, embeddings, self.config)[: len(batch)]
                _check(batch, pixels)
                files += [encoders.submit(to_png, image) for image in pixels]
            return [file.result() for file in files]


def load_painter(model: Dataset | None, base: BaseModel, config: EvaluateConfig, texts: Texts, device: str) -> Painter:
    """`model`, or the base for None, ready to paint on `device`.

    Raises:
        HubError, CheckpointError: it cannot be fetched or loaded, or `model` is no model.
    """
    import torch

    from pipeline_lib.models.aligned import load_pipeline

    folder = model.local(model_folder(model)) if model else None
    return Painter(load_pipeline(folder, base, getattr(torch, config.dtype), device), config, texts)


def images_at_once(config: EvaluateConfig, device: str) -> int:
    """Images per batch on a kind of device, "cpu" or "cuda". It decides how pixels round."""
    if device != "cpu":
        return config.batch_size
    return min(max(CPU_PIXELS // config.resolution**2, 1), CPU_IMAGES)


def workers() -> int:
    """How many can paint at once in this process: one on each GPU, or on the CPU one for each of torch's threads."""
    import torch

    return torch.cuda.device_count() or min(torch.get_num_threads(), CPU_WORKERS)


def make_scheduler(name: str, trained: Any) -> Any:
    """The sampler of that name over the base's own noise schedule; each is deterministic given the initial noise."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    if name == "ddim":
        # Latents are not bounded by 1, so the pixel-space default of clipping must not apply.
        return DDIMScheduler.from_config(trained, clip_sample=False)
    if name == "dpmsolver++":
        return DPMSolverMultistepScheduler.from_config(trained, algorithm_type="dpmsolver++")
    return EulerDiscreteScheduler.from_config(trained)


def initial_noise(prompt: str, seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal float32 noise (channels, height, width), drawn on the CPU: the same in any batch and process."""
    import torch

    generator = torch.Generator("cpu").manual_seed(int(text_id("noise", normalise_prompt(prompt), str(seed)), 16) >> 1)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def to_png(image: np.ndarray) -> bytes:
    """PNG bytes of a (height, width, 3) image in 0..1."""
    buffer = io.BytesIO()
    Image.fromarray((image * 255).round().astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def _pixels(
    pipeline: Any, jobs: Sequence[tuple[str, int]], embeddings: Mapping[str, Embedding], config: EvaluateConfig
) -> np.ndarray:
    """Images (n, height, width, 3) in 0..1."""
    import torch

    from pipeline_lib.models.decoding import decode

    side = config.resolution // pipeline.vae_scale_factor
    shape = (pipeline.unet.config.in_channels, side, side)
    latents = torch.stack([initial_noise(prompt, seed, shape) for prompt, seed in jobs])
    painted = pipeline(
        **conditions([embeddings[prompt] for prompt, _ in jobs], embeddings[""]),
        height=config.resolution,
        width=config.resolution,
        num_inference_steps=config.steps,
        guidance_scale=config.guidance,
        latents=latents.to(pipeline.device, pipeline.unet.dtype),
        output_type="latent",
    ).images
    return decode(pipeline, painted)


def _check(jobs: Sequence[tuple[str, int]], pixels: np.ndarray) -> None:
    broken = [job for job, image in zip(jobs, pixels, strict=True) if not np.isfinite(image).all()]
    if broken:
        raise EvaluationError(
            f"The model paints non-finite pixels for {len(broken)} of {len(jobs)} images, first {broken[0]!r}.",
            'Use mixed_precision="no" or "bf16"; or the weights have diverged.',
        )
