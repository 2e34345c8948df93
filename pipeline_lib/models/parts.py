"""The files of a base model's parts, fetched one by one: which they are, where they lie, what they hold.

Loads neither torch nor diffusers, so that a flow can look at a base, and find what was made with it, before it needs
them; components.py loads the parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.digest import current_sha256, digest
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.hub import HUB, repository_files, snapshot
from pipeline_lib.core.weights.files import (
    CONFIG,
    DIFFUSERS,
    TRANSFORMERS,
    VARIANTS,
    json_object,
    locate,
    patterns,
    present,
)
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.family import Family
from pipeline_lib.models.index import INDEX, TOKENIZER_FILES, check_parts, pipeline_class, read_index

SCHEDULER = "scheduler/scheduler_config.json"


def folder(base: BaseModel, parts: Sequence[str]) -> Path:
    """A local folder with the base model's `parts` (component names).

    Raises:
        HubError: it cannot be fetched.
        ConfigError: the repository is of another family.
        CheckpointError: its index is broken or names other classes, or weights are there in no format that is read.
    """
    models = [part for part in parts if weights_stem(part)]
    files = [INDEX, *(name for part in parts for name in _files(part))]
    root = _fetched(base.repo, base.revision, base.mirror, files, {part: weights_stem(part) for part in models})
    index = read_index(root / INDEX)
    found, wanted = pipeline_class(index), FAMILIES.get(base.family).pipeline
    if found != wanted:
        names = [name for name in FAMILIES.names() if FAMILIES.get(name).pipeline == found]
        raise ConfigError(
            f"{base.repo} is a {found}, but family {base.family!r} means a {wanted}.",
            f"Set family={names[0]!r}." if names else f"Use a repository of a {wanted}.",
        )
    check_parts(root / INDEX, index, parts)
    return root


def vae_folder(base: BaseModel) -> Path:
    """A local folder with the VAE that the base model uses: its own, or `vae_repo`."""
    if base.vae_repo is None:
        return folder(base, ["vae"]) / "vae"
    return _fetched(base.vae_repo, base.vae_revision, base.mirror, [CONFIG], {"": DIFFUSERS})


def part_files(base: BaseModel, part: str) -> dict[str, Path]:
    """The files that a part of the base model is loaded from, by the names that libraries look for, sorted by path.

    What else lies beside them (other variants, notes, files of other programs) decides nothing.
    """
    path = vae_folder(base) if part == "vae" else folder(base, [part]) / part
    if part == "scheduler":
        return {"scheduler_config.json": path / "scheduler_config.json"}
    if part.startswith("tokenizer"):
        return {name: path / name for name in TOKENIZER_FILES if (path / name).is_file()}
    files = {CONFIG: path / CONFIG, **locate(path, weights_stem(part)).plain()}
    return dict(sorted(files.items(), key=lambda item: item[1]))


def weights_stem(part: str) -> str:
    """How the names of a part's weight files begin; empty for parts without weights."""
    if is_encoder(part):
        return TRANSFORMERS
    return DIFFUSERS if part in ("unet", "vae") else ""


def is_encoder(part: str) -> bool:
    """Whether a part of a pipeline is a text encoder."""
    return part.startswith("text_encoder")


def own_json(base: BaseModel, name: str) -> dict[str, Any]:
    """A configuration file of the base model's repository."""
    return json_object(snapshot(base.repo, base.revision, [name], base.mirror) / name)


def fetch_unet(repo: str, revision: str | None, below: str) -> Path:
    """A local folder with the UNet that a repository on the hub has in its folder `below`, "." for its own."""
    return _fetched(repo, revision, HUB, [Path(below, CONFIG).as_posix()], {below: DIFFUSERS})


def pipeline_parts(family: Family) -> list[str]:
    """Every component a complete pipeline of the family is loaded from."""
    return ["scheduler", "unet", "vae", *family.text_parts]


def encoder_digest(base: BaseModel) -> str:
    """Digest of the files that decide latents and embeddings: VAE, text encoders, tokenizers, pipeline index."""
    family: Family = FAMILIES.get(base.family)
    files = [folder(base, family.text_parts) / INDEX]
    for part in ("vae", *family.text_parts):
        files += part_files(base, part).values()
    return digest([[path.name, current_sha256(path)] for path in files])


def _files(part: str) -> list[str]:
    if part == "scheduler":
        return [SCHEDULER]
    return [f"{part}/*"] if part.startswith("tokenizer") else [f"{part}/{CONFIG}"]


def _fetched(repo: str, revision: str | None, mirror: str, files: Sequence[str], models: Mapping[str, str]) -> Path:
    """A folder with `files` and the weights in each of its folders `models` (folder -> stem), which are located.

    Full precision is fetched where the repository has it; what has none comes as fp16.
    """
    lacking = list(models)
    for variant in VARIANTS:
        wanted = [Path(part, name).as_posix() for part in lacking for name in patterns(models[part], variant)]
        root = snapshot(repo, revision, files, mirror, wanted)
        lacking = [part for part in lacking if not present(root / part, models[part])]
        if not lacking:
            break
    there = [Path(name) for name in repository_files(repo, revision, mirror)] if lacking else []
    for part, stem in models.items():
        locate(root / part, stem, [path.name for path in there if path.parent == Path(part)])
    return root
