"""The pyfunc of every registered model: it paints for (prompt, seed) the image that the evaluation stored.

MLflow keeps this file beside the weights and runs it where `mlflow.pyfunc.load_model` loads the model ("models from
code": there is no pickle), so it imports nothing of this project. Whoever wants to run no code that came with a model
downloads the folder and gives it to diffusers.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from diffusers import DiffusionPipeline
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class TextToImage(PythonModel):
    """Prompts to PNG images, by the diffusers pipeline whose files lie around this one; on CUDA where there is one.

    Its configuration: `dtype` of the weights, and `batch`, the images painted at once on "cpu" and on "cuda".
    """

    def load_context(self, context: Any) -> None:
        """Load the pipeline."""
        device, dtype = "cuda" if torch.cuda.is_available() else "cpu", getattr(torch, context.model_config["dtype"])
        pipeline = DiffusionPipeline.from_pretrained(Path(__file__).parent, use_safetensors=True)
        pipeline.set_progress_bar_config(disable=True)
        # The type by `.to`: from_pretrained's `dtype` was `torch_dtype` in older versions of diffusers.
        self.pipeline, self.batch = pipeline.to(device, dtype), context.model_config["batch"][device]

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[bytes]:
        """One PNG file per row.

        Args:
            model_input: column `prompt`, and `seed` unless all are 0.
            params: `steps`, `guidance`, `resolution`; what is not given is the evaluation's, by the model's signature.
        """
        rows = model_input.explode("prompt")  # MLflow makes {"prompt": [...]} without seeds one row with a list
        seeds = map(int, rows["seed"]) if "seed" in rows else [0] * len(rows)
        jobs = list(zip(rows["prompt"], seeds, strict=True))
        batches = [jobs[start : start + self.batch] for start in range(0, len(jobs), self.batch)]
        return [image for batch in batches for image in self.paint(batch, **(params or {}))]

    def paint(self, jobs: list[tuple[str, int]], steps: int, guidance: float, resolution: int) -> list[bytes]:
        """PNG files of `resolution` x `resolution` pixels.

        How pixels round depends on the number of images painted at once, so a CPU paints full batches only, as in the
        evaluation. The same bits need the same number of threads as well: there it is one (OMP_NUM_THREADS=1).
        """
        pipe, side = self.pipeline, resolution // self.pipeline.vae_scale_factor
        full = jobs + jobs[-1:] * (self.batch - len(jobs)) if pipe.device.type == "cpu" else jobs
        shape = (pipe.unet.config.in_channels, side, side)
        noise = torch.stack([initial_noise(prompt, seed, shape) for prompt, seed in full])
        images = pipe(
            [prompt for prompt, _ in full],
            height=resolution,
            width=resolution,
            num_inference_steps=steps,
            guidance_scale=guidance,
            latents=noise.to(pipe.device, pipe.unet.dtype),
        ).images
        return [png(image) for image in images[: len(jobs)]]


def initial_noise(prompt: str, seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal float32 noise, a function of (prompt, seed) alone: what the evaluation starts from."""
    text = " ".join(unicodedata.normalize("NFC", prompt).split())
    key = hashlib.sha256(f"noise\x1f{text}\x1f{seed}".encode()).hexdigest()[:16]
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(int(key, 16) >> 1), dtype=torch.float32)


def png(image: Any) -> bytes:
    """PNG bytes of a PIL image."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


set_model(TextToImage())
