"""What trained models and latents were made with: told by digests, whatever names and paths say.

A name is a weak witness: `base` left out of one of several runs means the preset's base, a folder is written anew, a
branch of the hub moves.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import CheckpointError, ConfigError
from pipeline_lib.core.hub import HUB, SHAPES_MIRROR
from pipeline_lib.core.json_files import parse_json, read_json
from pipeline_lib.core.store import KEY_LENGTH, MANIFEST, Dataset, open_dataset
from pipeline_lib.models.identity import base_identity
from pipeline_lib.models.parts import encoder_digest

BASE = "base.json"
"""The file of a trained model that names its base."""
REMEDY = "Give a directory that training wrote."
_DATASET = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")


def check_base(model: Dataset, base: BaseModel) -> None:
    """Refuse to join a trained model with other weights than those it was trained from.

    Args:
        model: dataset of the stage "model".

    Raises:
        ConfigError: the files of `base`, as they are now, are not those.
        HubError, CheckpointError: they cannot be found or read, or `model` is no model.
    """
    named = base_of(model)
    # A model that does not say which weights they were has those that lie under the name.
    wanted = recorded_weights(model) or base_identity(named)["weights"]
    found = base_identity(base)["weights"]
    if found != wanted:
        raise ConfigError(
            f"{model.path()} was trained from {named.repo} with the weights {wanted}, but those of the base "
            f"{base.repo} are {found}.",
            f"Give the base that it was trained from{_as_parameter(named)}. Where its files were changed since, put "
            "them back, or train again.",
        )


def check_folder(folder: Path, base: BaseModel) -> None:
    """`check_base` for a model's files where they lie in a dataset, and whether they are those that were written; of
    others nobody knows either."""
    place = folder.absolute().parent
    if place.parent.name == "model" and _DATASET.fullmatch(place.name) and (place / MANIFEST).is_file():
        model = open_dataset(str(place))
        model.local(model_folder(model))
        check_base(model, base)


def check_latents(encoded: Dataset, base: BaseModel) -> None:
    """Refuse latents and embeddings by other encoders than those of `base`, as its files are now.

    Raises:
        ConfigError: they are, or the dataset does not say.
        HubError, CheckpointError: the base's files cannot be found or read.
    """
    made = encoded.config.get("model", {})
    if made.get("weights") != encoder_digest(base):
        raise ConfigError(
            f"{encoded.uri} was encoded by {made.get('repo', 'a base that it does not name')}, whose VAE and text "
            f"encoders are not those of {base.repo} as they are now.",
            "Encode with the model to train: run the flow encode with the same `base`.",
        )


def base_of(model: Dataset) -> BaseModel:
    """The base that a model dataset names; raises CheckpointError where it is no model."""
    path = f"{model_folder(model)}/{BASE}"
    with model.open(path) as file:
        return base_from(parse_json(file.read(), f"{model.uri}/{path}", CheckpointError, REMEDY), path)


def base_from(said: Mapping[str, Any], name: str) -> BaseModel:
    """The base in the content of a `base.json`, the file `name`; raises CheckpointError."""
    try:
        return BaseModel(**said)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{name} names no base model: {error}.", REMEDY) from error


def read_base(model_dir: Path) -> BaseModel:
    """The base a model belongs to; raises CheckpointError when the directory is not a model."""
    return base_from(read_json(model_dir / BASE, CheckpointError, REMEDY), str(model_dir / BASE))


def model_folder(model: Dataset) -> str:
    """Where in the dataset the model lies: beside its `base.json`."""
    folders = [posixpath.dirname(s.path) for s in model.shards if posixpath.basename(s.path) == BASE]
    if not folders:
        raise CheckpointError(
            f"{model.uri} is not a trained model: it has no {BASE}.",
            'Give a dataset of stage "model", or None for the base.',
        )
    return folders[0]


def recorded_weights(model: Dataset) -> str | None:
    """The digest of the base's weights that a model dataset states; None where it states none."""
    base = model.config.get("base")
    return str(base["weights"]) if isinstance(base, dict) and base.get("weights") else None


def _as_parameter(base: BaseModel) -> str:
    if base.mirror == SHAPES_MIRROR:
        return ", the preset's: leave `base` out"
    if base.mirror == HUB:
        return f": base={base.repo}" + (f"@{base.revision}" if base.revision else "")
    return f": base={base.mirror}/{base.repo}"
