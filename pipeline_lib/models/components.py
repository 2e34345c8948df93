"""Parts of a base model, loaded one by one: training needs no VAE and no text encoder, encoding needs no UNet."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.weights.files import CONFIG, locate
from pipeline_lib.core.weights.read import diffusers_model, reading, stored_tensors, unwrapped
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.configs import read_config
from pipeline_lib.models.family import Family, NoiseSchedule
from pipeline_lib.models.index import INDEX, check_parts, read_index, unused_parts
from pipeline_lib.models.known import check_texts, check_unet, check_vae, class_of
from pipeline_lib.models.noise import check_noise
from pipeline_lib.models.parts import SCHEDULER, folder, own_json, pipeline_parts, vae_folder, weights_stem
from pipeline_lib.models.text import load_text_parts


def unwrapped_weights(base: BaseModel, part: str) -> dict[str, torch.Tensor] | None:
    """The part's tensors under their plain names, where its files have those of a compiled or distributed model."""
    stem, path = weights_stem(part), vae_folder(base) if part == "vae" else folder(base, [part]) / part
    return unwrapped(locate(path, stem)) if stem else None


def load_unet(base: BaseModel, dtype: torch.dtype = torch.float32) -> Any:
    """The base model's UNet2DConditionModel, on the CPU."""
    path = folder(base, ["unet"]) / "unet"
    check_unet(read_config(path / CONFIG), FAMILIES.get(base.family))
    return unet_from(path, dtype)


def empty_unet(base: BaseModel) -> Any:
    """The base model's UNet2DConditionModel without weights, on the device "meta": its layers and their shapes."""
    with torch.device("meta"):
        return diffusers.UNet2DConditionModel.from_config(own_json(base, "unet/config.json"))


def unet_from(path: Path, dtype: torch.dtype) -> Any:
    """A UNet2DConditionModel from a local folder, on the CPU.

    Raises:
        CheckpointError: it cannot be loaded.
        ConfigError: it wants more than it is given here.
    """
    check_unet(read_config(path / CONFIG))
    return diffusers_model(diffusers.UNet2DConditionModel, path, dtype)


def stored_unet(path: Path) -> dict[str, tuple[Path, str]]:
    """File, and name in it, of each tensor of the UNet in a local folder; raises CheckpointError."""
    return stored_tensors(diffusers.UNet2DConditionModel, path)


def load_vae(base: BaseModel, dtype: torch.dtype) -> Any:
    """The base model's AutoencoderKL; in fp32 instead of fp16 where its configuration says that fp16 overflows."""
    path = vae_folder(base)
    config = read_config(path / CONFIG)
    check_vae(config, FAMILIES.get(base.family))
    upcast = config.fields.get("force_upcast", True)
    # SD 1.x and 2.x carry no flag, get the library's default, and are safe; only SDXL's own VAE overflows.
    unsafe = base.family == "sdxl" and upcast and dtype == torch.float16
    return diffusers_model(diffusers.AutoencoderKL, path, torch.float32 if unsafe else dtype)


def load_schedule(base: BaseModel) -> NoiseSchedule:
    """The noise schedule of the base model's scheduler; raises ConfigError for other noise processes."""
    root = folder(base, ["scheduler"])
    check_noise(read_config(root / SCHEDULER), class_of(read_config(root / INDEX), "scheduler"))
    scheduler = diffusers.DDPMScheduler.from_pretrained(root, subfolder="scheduler")
    return NoiseSchedule(scheduler.alphas_cumprod.float(), scheduler.config.prediction_type)


def load_text_pipeline(base: BaseModel, dtype: torch.dtype, device: str) -> Any:
    """The stock pipeline with tokenizers and text encoders only; `Family.encode_prompts` takes it."""
    family: Family = FAMILIES.get(base.family)
    root = folder(base, family.text_parts)
    check_texts(root, family.text_parts)
    quiet()
    parts = {"unet": None, "vae": None, "scheduler": None, **family.absent}
    return pipeline_from(family, root, dtype, parts).to(device)


def pipeline_from(family: Family, root: Path, dtype: torch.dtype, parts: dict[str, Any]) -> Any:
    """The family's pipeline from a local folder with `parts` in place of its own.

    Raises:
        CheckpointError: it cannot be loaded, has its weights in another format than safetensors, or code of its own.
    """
    index, cls = read_index(root / INDEX), getattr(diffusers, family.pipeline)
    own = [part for part in family.text_parts if part not in parts]
    check_parts(root / INDEX, index, own)
    unused = unused_parts(index, cls, pipeline_parts(family))
    given = {**dict.fromkeys(unused), **load_text_parts(root, own, dtype), **parts}
    with reading(root, f"a {family.pipeline}", "Fetch the repository again."):
        return cls.from_pretrained(root, dtype=dtype, local_files_only=True, **given)


def quiet() -> None:
    """Silence the libraries' progress bars and their warning about each truncated prompt, and nothing else."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    for name in _TRUNCATING:
        logging.getLogger(name).addFilter(_not_truncation)


_TRUNCATING = (
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "transformers.tokenization_utils_base",
)


def _not_truncation(record: logging.LogRecord) -> bool:
    """Whether a record is about anything else than a prompt that is longer than the encoder's context."""
    message = record.getMessage()
    return "was truncated because CLIP" not in message and "sequence length is longer than" not in message
