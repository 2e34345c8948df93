"""Stage "images": one model's images for a prompt set. The base's are made once and shared by every comparison.

The initial noise is a function of (prompt, seed) alone, never of batch, order or process, so two models given the same
prompt and seed start from the same noise and differ by their weights only.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline_lib import schemas, store
from pipeline_lib.config import BaseModel, EvaluateConfig
from pipeline_lib.digest import text_id
from pipeline_lib.errors import CheckpointError, EvaluationError
from pipeline_lib.evaluation.prompts import PromptSet
from pipeline_lib.ingest import normalise_prompt, prompt_id
from pipeline_lib.models.identity import base_identity
from pipeline_lib.store import Dataset, DatasetWriter, Shard

if TYPE_CHECKING:
    import torch

STAGE = "images"
VERSION = 1
PROMPTS_PER_SHARD = 64

SCHEMA = pa.schema([field for field in schemas.EVALUATION if field.name != "model"])

Progress = Callable[[int, int], None]


def image_writer(
    root: str, model: Dataset | None, base: BaseModel, prompts: PromptSet, config: EvaluateConfig
) -> DatasetWriter:
    """The writer of one model's images. `model` None is the base itself.

    The key holds everything that decides the pixels. That includes the batch size: the noise does not depend on it,
    but kernels round differently for other shapes, which moves a few pixels by one grey level. The device, which does
    the same, is not a setting and not part of the key.
    """
    question = {
        "base": base_identity(base),
        "prompts": prompts.digest,
        "seeds": list(config.seeds),
        "scheduler": config.scheduler,
        "steps": config.steps,
        "guidance": config.guidance,
        "resolution": config.resolution,
        "batch_size": config.batch_size,
        "mixed_precision": config.mixed_precision,
    }
    return store.writer(root, STAGE, VERSION, question, [model] if model else [])


def shard_count(prompts: PromptSet) -> int:
    """Number of shards, PROMPTS_PER_SHARD prompts each."""
    return -(-len(prompts.prompts) // PROMPTS_PER_SHARD)


def generate(
    root: str,
    model: Dataset | None,
    base: BaseModel,
    prompts: PromptSet,
    config: EvaluateConfig,
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> Dataset:
    """Images of one model for every (prompt, seed); finished shards of an earlier run are kept.

    Args:
        root: the store's URL.
        model: dataset of stage "model" (LoRA or full UNet), or None for the base.
        base: the pipeline that `model` was trained from.
        progress: called with (images done, images in all) after each shard.
    """
    writer = image_writer(root, model, base, prompts, config)
    total = len(prompts.prompts) * len(config.seeds)
    if finished := writer.finished():
        if progress:
            progress(total, total)
        return finished
    pipeline: Any = None
    shards: list[Shard] = []
    for index in range(shard_count(prompts)):
        shard = writer.existing(shard_path(index))
        if shard is None:
            pipeline = pipeline or prepare_pipeline(model, base, config, device)
            shard = generate_shard(writer, pipeline, prompts, config, index)
        shards.append(shard)
        if progress:
            progress(sum(s.rows for s in shards), total)
    return writer.commit(shards)


def shard_path(index: int) -> str:
    """Path of a shard in the dataset."""
    return f"part-{index:05d}.parquet"


def generate_shard(
    writer: DatasetWriter, pipeline: Any, prompts: PromptSet, config: EvaluateConfig, index: int
) -> Shard:
    """Generate and publish one shard with a pipeline from `prepare_pipeline`."""
    chosen = prompts.prompts[index * PROMPTS_PER_SHARD : (index + 1) * PROMPTS_PER_SHARD]
    jobs = [(prompt, seed) for prompt in chosen for seed in config.seeds]
    images: list[bytes] = []
    for start in range(0, len(jobs), config.batch_size):
        images += generate_images(pipeline, jobs[start : start + config.batch_size], config)
    table = pa.table(
        {
            "prompt_id": [prompt_id(prompt) for prompt, _ in jobs],
            "prompt": [prompt for prompt, _ in jobs],
            "seed": [seed for _, seed in jobs],
            "image": images,
        }
    )
    return writer.write_table(shard_path(index), schemas.conform(table, SCHEMA, "images"))


def prepare_pipeline(model: Dataset | None, base: BaseModel, config: EvaluateConfig, device: str = "auto") -> Any:
    """A loaded diffusers pipeline with the scheduler and precision of `config`; device "auto" takes CUDA if it can."""
    import torch

    from pipeline_lib.models.aligned import load_pipeline
    from pipeline_lib.scoring.engine import runtime

    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[config.mixed_precision]
    folder = model.local(model_folder(model)) if model else None
    pipeline = load_pipeline(folder, base, dtype, str(runtime(device).device))
    pipeline.scheduler = make_scheduler(config.scheduler, pipeline.scheduler.config)
    return pipeline


def make_scheduler(name: str, trained: Any) -> Any:
    """The sampler of that name over the base's own noise schedule; each is deterministic given the initial noise."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    if name == "ddim":
        # Latents are not bounded by 1, so the pixel-space default of clipping must not apply.
        return DDIMScheduler.from_config(trained, clip_sample=False)
    if name == "dpmsolver++":
        return DPMSolverMultistepScheduler.from_config(trained, algorithm_type="dpmsolver++")
    return EulerDiscreteScheduler.from_config(trained)


def generate_images(pipeline: Any, jobs: Sequence[tuple[str, int]], config: EvaluateConfig) -> list[bytes]:
    """One batch of PNG images, one per (prompt, seed); raises EvaluationError when pixels are not finite."""
    import torch

    side = config.resolution // pipeline.vae_scale_factor
    shape = (pipeline.unet.config.in_channels, side, side)
    latents = torch.stack([initial_noise(prompt, seed, shape) for prompt, seed in jobs])
    pixels = pipeline(
        prompt=[prompt for prompt, _ in jobs],
        height=config.resolution,
        width=config.resolution,
        num_inference_steps=config.steps,
        guidance_scale=config.guidance,
        latents=latents.to(pipeline.device, pipeline.unet.dtype),
        output_type="np",
    ).images
    broken = [job for job, image in zip(jobs, pixels, strict=True) if not np.isfinite(image).all()]
    if broken:
        raise EvaluationError(
            f"The model paints non-finite pixels for {len(broken)} of {len(jobs)} images, first {broken[0]!r}.",
            'Use mixed_precision="no" or "bf16", for SDXL in fp16 the fp16-fix VAE; or the weights have diverged.',
        )
    return [to_png(image) for image in pixels]


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


def model_folder(model: Dataset) -> str:
    """Where in the dataset the model lies: beside its `base.json`."""
    folders = [posixpath.dirname(s.path) for s in model.shards if posixpath.basename(s.path) == "base.json"]
    if not folders:
        raise CheckpointError(
            f"{model.uri} is not a trained model: it has no base.json.",
            'Give a dataset of stage "model", or None for the base.',
        )
    return folders[0]
