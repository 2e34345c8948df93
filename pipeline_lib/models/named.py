"""Another base model than a preset's: a repository on the hub, or a local folder, by name; and weights in a base."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.digest import current_sha256, digest
from pipeline_lib.core.errors import CheckpointError, HubError
from pipeline_lib.core.hub import HUB, repository_files, snapshot
from pipeline_lib.core.urls import local_path
from pipeline_lib.models.alone import UNET, files_of_weights, listed, names_among, weights_in
from pipeline_lib.models.identity import base_identity
from pipeline_lib.models.index import INDEX
from pipeline_lib.models.lora_settings import LORA_WEIGHTS, PEFT_CONFIG, PEFT_WEIGHTS
from pipeline_lib.models.names import check_base_name
from pipeline_lib.models.origin import BASE, read_base
from pipeline_lib.models.parts import fetch_unet
from pipeline_lib.models.supported import check_supported


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


def check_named(base: BaseModel, name: str | None) -> int | None:
    """Check the base model that a run names, None for `base`, a preset's, before anything of it is fetched but its
    configuration (`supported.check_supported`).

    Returns:
        the timesteps of its noise schedule; None where that is looked at later: the hub does not answer, or it is a
        preset's on the hub, whose revision is fixed.

    Raises:
        ConfigError: it is of a kind that is not known here.
        CheckpointError, HubError: it is no model, or its files cannot be read.
    """
    if name is None and base.mirror == HUB:
        return None
    return check_kind(base if name is None else _deciding(base, name))


def check_kind(base: BaseModel) -> int | None:
    """`supported.check_supported`; None where the hub does not answer, which the stages ask again."""
    try:
        return check_supported(base)
    except HubError:
        if base.mirror == HUB:
            return None
        raise


def _deciding(base: BaseModel, name: str) -> BaseModel:
    """What decides whether the base model `name` is known here: of a folder that training wrote, its own base."""
    folder = local_path(name)
    if folder.is_dir() and not (folder / INDEX).is_file() and (folder / BASE).is_file():
        return read_base(folder)
    return base_named(base, name, folder)  # nothing is fused into the folder: it is complete, or no model


def in_folder(base: BaseModel, folder: Path, depth: int = 1) -> BaseModel:
    """A diffusers folder as a base of the family of `base`; its last `depth` parts name it in dataset keys."""
    return BaseModel(family=base.family, repo="/".join(folder.parts[-depth:]), mirror=str(folder.parents[depth - 1]))


def is_alone(place: Path) -> bool:
    """Whether a folder or file holds a UNet alone or a LoRA, and nothing that says of which base.

    Raises:
        CheckpointError: it holds several, or only pickles.
    """
    if place.is_file():
        return True
    known = (place / INDEX).is_file() or (place / BASE).is_file()
    return not known and names_among(str(place), listed(place)) is not None


def fetched_alone(name: str) -> Path | None:
    """The files of a repository on the hub that holds a UNet alone or a LoRA; None for others.

    A repository that cannot be looked at now is taken for a whole pipeline, and missed where its files are needed.

    Args:
        name: `<org>/<name>[@<revision>]`.

    Raises:
        CheckpointError: it holds several, or only pickles.
        HubError: its files cannot be fetched.
    """
    repo, _, revision = name.partition("@")
    try:
        files = repository_files(repo, revision or None)
    except HubError:
        return None
    found = None if INDEX in files else names_among(name, files)
    if found is None:
        return None
    if found.unet:
        return fetch_unet(repo, revision or None, found.unet)
    beside = [PEFT_CONFIG] if found.lora == PEFT_WEIGHTS else []
    return snapshot(repo, revision or None, [str(found.lora)], optional=beside)


def in_base(base: BaseModel, place: Path, name: str, store: Path) -> BaseModel:
    """A UNet alone or a LoRA (`weights_in`) in `base`: a complete diffusers folder in `store`, made once per content.

    Args:
        name: what it is called in dataset keys: the last parts of its path, or `<org>/<name>`.

    Raises:
        CheckpointError: it does not fit the base, or is neither.
        HubError: the base cannot be fetched.
    """
    weights = weights_in(place)
    content = [[file.name, current_sha256(file)] for file in files_of_weights(weights)]
    final = store / digest([base_identity(base), content], 16) / name
    if not final.is_dir():
        from pipeline_lib.models.aligned import export  # loads torch and diffusers

        with tempfile.TemporaryDirectory(dir=store, prefix=".", suffix=".tmp") as scratch:
            whole = export(place, base, Path(scratch) / "whole")
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                whole.rename(final)
            except OSError:
                if not final.is_dir():  # otherwise another run was faster, with the same files
                    raise
    return in_folder(base, final, len(Path(name).parts))


def complete(folder: Path, scratch: Path) -> Path:
    """A complete diffusers folder: `folder`, or, where training wrote it, its LoRA or UNet in its base, in `scratch`.

    Raises:
        CheckpointError: `folder` is neither.
        HubError: the base that a LoRA belongs to cannot be fetched.
        ConfigError: the base that lies where the LoRA's did is another one now.
    """
    if (folder / INDEX).is_file():
        return folder
    trained = (folder / LORA_WEIGHTS).is_file() or (folder / UNET).is_dir()
    if trained and (folder / BASE).is_file():
        return _joined(folder, scratch)
    what = f"trained weights but no {BASE}, which names their base" if trained else "no diffusers pipeline"
    raise CheckpointError(
        f"{folder} holds {what}.",
        "Give a complete pipeline folder, as the flow register publishes it: load the base, then load_lora_weights() "
        "and fuse_lora(), or put the UNet in its place, and save_pretrained().",
    )


def _joined(folder: Path, scratch: Path) -> Path:
    """What training wrote, in its base: made once for each content, so that nobody's files change under its hands."""
    base = read_base(folder)
    written = [folder / BASE, folder / LORA_WEIGHTS, *sorted((folder / UNET).glob("*"))]
    content = [[file.name, current_sha256(file)] for file in written if file.is_file()]
    # The library writes its version into configuration files.
    key = digest([content, base_identity(base)["weights"], version("diffusers")], 16)
    out = scratch / key / folder.name
    if out.is_dir():
        return out
    from pipeline_lib.models.aligned import export  # loads torch and diffusers

    return export(folder, base, out)
