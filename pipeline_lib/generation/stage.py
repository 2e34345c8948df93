"""Stage "images": one model's images for a prompt set. The base's are made once and shared by every comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline_lib.core import schemas, store
from pipeline_lib.core.config import BaseModel, EvaluateConfig
from pipeline_lib.core.digest import canonical_json
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.identity import identity
from pipeline_lib.core.resident import resident
from pipeline_lib.core.store import Dataset, DatasetWriter, Shard
from pipeline_lib.data.prompts import prompt_id
from pipeline_lib.generation.embeddings import Texts
from pipeline_lib.generation.painter import Painter, images_at_once, load_painter
from pipeline_lib.generation.prompts import PromptSet
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.identity import base_identity
from pipeline_lib.models.noise import check_steps
from pipeline_lib.models.origin import check_base, model_folder

STAGE = "images"
VERSION = 2
SHARD_IMAGES = (16, 64)
"""Images of a shard, the work that a crash can cost, at least and at most: between them as many as ..."""
SHARD_WORK = 50 * 16 * 1024**2
"""... take this many steps x pixels: 16 images of SDXL in 50 steps, a minute or two of one GPU."""

SCHEMA = pa.schema([field for field in schemas.EVALUATION if field.name != "model"])

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Painting:
    """One model's images, finished or to be painted, and what decides them. `model` None is the base itself."""

    writer: DatasetWriter
    model: Dataset | None
    base: BaseModel
    prompts: PromptSet
    config: EvaluateConfig

    @property
    def images(self) -> int:
        """How many images the model paints."""
        return len(self.prompts.prompts) * len(self.config.seeds)

    def shards(self) -> list[str]:
        """Paths of the shards."""
        return [shard_path(index) for index in range(-(-len(self.prompts.prompts) // prompts_per_shard(self.config)))]


def open_painting(
    root: str,
    model: Dataset | None,
    base: BaseModel,
    prompts: PromptSet,
    config: EvaluateConfig,
    device: str = "auto",
) -> Painting:
    """The painting of one model on a kind of device. The base is found, checked and hashed, nothing is loaded.

    The key holds everything that decides the pixels. That includes the number of images that go through the model at
    once: the noise does not depend on it, but kernels round differently for other shapes, which moves a few pixels by
    one grey level. On the CPU it is always the same (`painter`), on CUDA it is the configuration's.

    Raises:
        ConfigError: `model` was trained from other weights than those of `base`; or the base is of a kind that is not
            known here, or has fewer timesteps than are to be sampled.
    """
    from pipeline_lib.models.supported import check_supported  # loads torch and diffusers

    check_steps(check_supported(base), config.steps)
    if model:
        check_base(model, base)
    question: dict[str, Any] = {
        "base": base_identity(base),
        "prompts": prompts.digest,
        "seeds": list(config.seeds),
        "scheduler": config.scheduler,
        "steps": config.steps,
        "guidance": config.guidance,
        "resolution": config.resolution,
        "batch_size": images_at_once(config, _kind(device)),
        "mixed_precision": config.mixed_precision,
    }
    key = {**identity(question, EvaluateConfig), "base": identity(question["base"], BaseModel)}
    key["batch_size"] = question["batch_size"]  # not the setting of that name
    inputs = [model] if model else []
    writer = store.writer(root, STAGE, VERSION, question, inputs, identity=key, modules=[__name__])
    return Painting(writer, model, base, prompts, config)


def check_paintable(painting: Painting) -> None:
    """Raise CheckpointError for a model whose weights do not fit its base, unless its images are there already."""
    if painting.model and painting.writer.finished() is None:
        from pipeline_lib.models.aligned import check_fits  # loads torch and diffusers

        check_fits(painting.model.local(model_folder(painting.model)), painting.base)


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
    painting = open_painting(root, model, base, prompts, config, device)
    if finished := painting.writer.finished():
        if progress:
            progress(painting.images, painting.images)
        return finished
    shards: list[Shard] = []
    for index in range(len(painting.shards())):
        shards.append(paint_shard(painting, index, device))
        if progress:
            progress(sum(s.rows for s in shards), painting.images)
    return painting.writer.commit(shards)


def paint_shard(painting: Painting, index: int, device: str = "auto") -> Shard:
    """Paint and publish one shard, or find where an earlier run has left it.

    Raises:
        ConfigError: this machine finds another base than the one that planned the work, or another kind of device.
        EvaluationError: pixels are not finite.
    """
    path = painting.shards()[index]
    if existing := painting.writer.existing(path):
        return existing
    size = prompts_per_shard(painting.config)
    chosen = painting.prompts.prompts[index * size : (index + 1) * size]
    jobs = [(prompt, seed) for prompt in chosen for seed in painting.config.seeds]
    images = resident_painter(painting, device).paint(jobs)
    table = pa.table(
        {
            "prompt_id": [prompt_id(prompt) for prompt, _ in jobs],
            "prompt": [prompt for prompt, _ in jobs],
            "seed": [seed for _, seed in jobs],
            "image": images,
        }
    )
    return painting.writer.write_table(path, schemas.conform(table, SCHEMA, "images"))


def resident_painter(painting: Painting, device: str = "auto") -> Painter:
    """The painting's model on `device`, loaded on the first call; the embeddings of prompts outlive a model."""
    from pipeline_lib.scoring.engine import runtime

    base, config = painting.base, painting.config
    where = str(runtime(device).device)
    asked = painting.writer.config
    encoder = canonical_json([asked["base"], config.mixed_precision])
    texts = resident(f"{where}, texts", encoder, lambda: Texts(FAMILIES.get(base.family)))

    def load() -> Painter:
        loaded = load_painter(painting.model, base, config, texts, where)
        # Looked at afterwards: files may have been changed until they were read.
        if asked["base"] != base_identity(base) or asked["batch_size"] != images_at_once(config, _kind(where)):
            raise ConfigError(
                f"The base model or the kind of device on this machine ({where}) is not that of the run.",
                "Give every machine the same weights and the same kind of device, and change neither meanwhile.",
            )
        return loaded

    return resident(where, painting.writer.uri, load)


def prompts_per_shard(config: EvaluateConfig) -> int:
    """Prompts of a shard, with all their seeds."""
    least, most = SHARD_IMAGES
    images = SHARD_WORK // (config.steps * config.resolution**2)
    return max(min(max(images, least), most) // len(config.seeds), 1)


def shard_path(index: int) -> str:
    """Path of a shard in the dataset."""
    return f"part-{index:05d}.parquet"


def _kind(device: str) -> str:
    from pipeline_lib.scoring.engine import device_kind

    return device_kind(device)
