"""Parts of a base model, fetched one by one: training needs no VAE and no text encoder, encoding needs no UNet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from pipeline_lib.config import BaseModel
from pipeline_lib.digest import digest, file_sha256
from pipeline_lib.errors import CheckpointError, ConfigError
from pipeline_lib.hub import snapshot
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.family import Family, NoiseSchedule

INDEX = "model_index.json"
# Full-precision safetensors, whole or sharded; not `.fp16.`, `.non_ema.` or `.bin` variants.
LIBRARIES = ("diffusers", "transformers")
"""What a pipeline's parts may be classes of; others would be imported, or be code beside the weights."""
_DIFFUSERS_WEIGHTS = "diffusion_pytorch_model[.-][s0]*"
_TRANSFORMERS_WEIGHTS = "model[.-][s0]*"


def folder(base: BaseModel, parts: Sequence[str]) -> Path:
    """A local folder with the base model's `parts` (component names).

    Raises:
        HubError: it cannot be fetched.
        ConfigError: the repository is of another family.
    """
    files = [INDEX, *(name for part in parts for name in _files(part))]
    root = snapshot(base.repo, base.revision, files, base.mirror)
    found = json.loads((root / INDEX).read_text()).get("_class_name")
    wanted = FAMILIES.get(base.family).pipeline
    if found != wanted:
        names = [name for name in FAMILIES.names() if FAMILIES.get(name).pipeline == found]
        raise ConfigError(
            f"{base.repo} is a {found}, but family {base.family!r} means a {wanted}.",
            f"Set family={names[0]!r}." if names else f"Use a repository of a {wanted}.",
        )
    return root


def vae_folder(base: BaseModel) -> Path:
    """A local folder with the VAE that the base model uses: its own, or `vae_repo`."""
    if base.vae_repo is None:
        return folder(base, ["vae"]) / "vae"
    return snapshot(base.vae_repo, base.vae_revision, ["config.json", _DIFFUSERS_WEIGHTS], base.mirror)


def files_of(base: BaseModel, part: str) -> list[Path]:
    """The files that the VAE, a tokenizer or a text encoder of the base model is loaded from."""
    return _below(vae_folder(base) if part == "vae" else folder(base, [part]) / part)


def own_json(base: BaseModel, name: str) -> dict[str, Any]:
    """A configuration file of the base model's repository."""
    root = snapshot(base.repo, base.revision, [name], base.mirror)
    content: dict[str, Any] = json.loads((root / name).read_text(encoding="utf-8"))
    return content


def load_unet(base: BaseModel, dtype: torch.dtype = torch.float32) -> Any:
    """The base model's UNet2DConditionModel, on the CPU."""
    return unet_from(folder(base, ["unet"]) / "unet", dtype)


def unet_from(path: Path, dtype: torch.dtype) -> Any:
    """A UNet2DConditionModel from a local folder, on the CPU; raises CheckpointError."""
    return _strict(diffusers.UNet2DConditionModel, path, dtype)


def weight_files(path: Path) -> list[Path]:
    """The files with the weights of a diffusers model's local folder: one, or its shards."""
    return sorted(file for file in path.glob(_DIFFUSERS_WEIGHTS) if file.suffix == ".safetensors")


def load_vae(base: BaseModel, dtype: torch.dtype) -> Any:
    """The base model's AutoencoderKL; in fp32 instead of fp16 where its configuration says that fp16 overflows."""
    path = vae_folder(base)
    upcast = diffusers.AutoencoderKL.load_config(path).get("force_upcast", True)
    # SD 1.x and 2.x carry no flag, get the library's default, and are safe; only SDXL's own VAE overflows.
    unsafe = base.family == "sdxl" and upcast and dtype == torch.float16
    return _strict(diffusers.AutoencoderKL, path, torch.float32 if unsafe else dtype)


def load_schedule(base: BaseModel) -> NoiseSchedule:
    """The noise schedule of the base model's scheduler; raises ConfigError for other prediction types."""
    scheduler = diffusers.DDPMScheduler.from_pretrained(folder(base, ["scheduler"]), subfolder="scheduler")
    kind = scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise ConfigError(
            f"{base.repo} predicts {kind!r}; training knows epsilon and v_prediction.", "Choose another base model."
        )
    return NoiseSchedule(scheduler.alphas_cumprod.float(), kind)


def load_text_pipeline(base: BaseModel, dtype: torch.dtype, device: str) -> Any:
    """The stock pipeline with tokenizers and text encoders only; `Family.encode_prompts` takes it."""
    family: Family = FAMILIES.get(base.family)
    root = folder(base, family.text_parts)
    quiet()
    parts = {"unet": None, "vae": None, "scheduler": None, **family.absent}
    return pipeline_from(family, root, dtype, parts).to(device)


def pipeline_from(family: Family, root: Path, dtype: torch.dtype, parts: dict[str, Any]) -> Any:
    """The family's pipeline from a local folder with `parts` in place of its own.

    Raises:
        CheckpointError: it cannot be loaded, has its weights in another format than safetensors, or code of its own.
    """
    content = json.loads((root / INDEX).read_text(encoding="utf-8"))
    named = {value[0] for part, value in content.items() if isinstance(value, list) and part not in parts}
    if foreign := sorted(named - {*LIBRARIES, None}):
        raise CheckpointError(
            f"{root / INDEX} takes parts from {', '.join(foreign)}: code that is not run here.",
            f"Give a pipeline whose parts are those of {' and '.join(LIBRARIES)}.",
        )
    try:
        return getattr(diffusers, family.pipeline).from_pretrained(
            root, dtype=dtype, local_files_only=True, use_safetensors=True, **parts
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{root} cannot be loaded as a {family.pipeline}: {error}", "Fetch the repository again."
        ) from error


def pipeline_parts(family: Family) -> list[str]:
    """Every component a complete pipeline of the family is loaded from."""
    return ["scheduler", "unet", "vae", *family.text_parts]


def encoder_digest(base: BaseModel) -> str:
    """Digest of the files that decide latents and embeddings: VAE, text encoders, tokenizers, pipeline index."""
    family: Family = FAMILIES.get(base.family)
    root = folder(base, family.text_parts)
    files = [root / INDEX, *_below(vae_folder(base))]
    for part in family.text_parts:
        files += _below(root / part)
    return digest([[path.name, file_sha256(path)] for path in files])


def quiet() -> None:
    """Silence the libraries' progress bars and their warning about each truncated prompt."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()


def _files(part: str) -> list[str]:
    if part == "scheduler":
        return ["scheduler/scheduler_config.json"]
    if part.startswith("tokenizer"):
        return [f"{part}/*"]
    weights = _TRANSFORMERS_WEIGHTS if part.startswith("text_encoder") else _DIFFUSERS_WEIGHTS
    return [f"{part}/config.json", f"{part}/{weights}"]


def _below(path: Path) -> list[Path]:
    """Configuration and weight files; other variants of the weights may lie beside them."""
    patterns = ("*.json", "*.txt", "*.model", _DIFFUSERS_WEIGHTS, _TRANSFORMERS_WEIGHTS)
    return sorted({file for pattern in patterns for file in path.glob(pattern) if file.is_file()})


def _strict(cls: Any, path: Path, dtype: torch.dtype) -> Any:
    """Load a diffusers model; missing or unexpected weights are an error, where diffusers would draw random ones."""
    try:
        model, info = cls.from_pretrained(
            path, dtype=dtype, output_loading_info=True, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be loaded: {error}", "Fetch the repository again.") from error
    wrong = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if wrong:
        raise CheckpointError(
            f"{path}: {len(wrong)} weights do not fit {cls.__name__}, for example {wrong[0]}.",
            "Fetch the repository again, or check that config.json belongs to these weights.",
        )
    return model
