"""Another base model than a preset's: a repository on the hub, or a local folder, by name."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.config import BaseModel
from pipeline_lib.errors import CheckpointError
from pipeline_lib.models.aligned import BASE, LORA_WEIGHTS, UNET, export, read_base
from pipeline_lib.models.index import INDEX
from pipeline_lib.models.names import check_base_name
from pipeline_lib.urls import local_path


def base_named(base: BaseModel, name: str, scratch: Path) -> BaseModel:
    """The base model `name`, of the family of `base`, with its own VAE.

    Args:
        name: `<org>/<name>[@<revision>]` on the hub, or a local folder.
        scratch: where a LoRA is fused into its base, when the folder holds only one.

    Raises:
        ConfigError: it is neither.
        CheckpointError: the folder holds no pipeline.
    """
    check_base_name(name)
    folder = local_path(name)
    if folder.is_dir():
        return in_folder(base, complete(folder.resolve(), scratch))
    repo, _, revision = name.partition("@")
    return BaseModel(family=base.family, repo=repo, revision=revision or None)


def in_folder(base: BaseModel, folder: Path, depth: int = 1) -> BaseModel:
    """A diffusers folder as a base of the family of `base`; its last `depth` parts name it in dataset keys."""
    return BaseModel(family=base.family, repo="/".join(folder.parts[-depth:]), mirror=str(folder.parents[depth - 1]))


def complete(folder: Path, scratch: Path) -> Path:
    """A complete diffusers folder: `folder`, or, where training wrote it, its LoRA or UNet in its base, in `scratch`.

    Raises:
        CheckpointError: `folder` is neither.
        HubError: the base that a LoRA belongs to cannot be fetched.
    """
    if (folder / INDEX).is_file():
        return folder
    trained = (folder / LORA_WEIGHTS).is_file() or (folder / UNET).is_dir()
    if trained and (folder / BASE).is_file():
        return export(folder, read_base(folder), scratch / folder.name)
    what = f"trained weights but no {BASE}, which names their base" if trained else "no diffusers pipeline"
    raise CheckpointError(
        f"{folder} holds {what}.",
        "Give a complete pipeline folder, as the flow register publishes it: load the base, then load_lora_weights() "
        "and fuse_lora(), or put the UNet in its place, and save_pretrained().",
    )
