"""A pipeline as a folder that diffusers and transformers of other versions load, too.

Training touches the UNet alone. So text encoders, tokenizers and the VAE are the base's own files, byte for byte, as
its authors published them: what today's libraries write in their place has other tensor names, vocabulary files and
fields, which older ones take for missing weights.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
from safetensors.torch import save_file

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.weights.files import CONFIG
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.components import unwrapped_weights
from pipeline_lib.models.family import Family
from pipeline_lib.models.index import INDEX
from pipeline_lib.models.parts import own_json, part_files, weights_stem

_ONE_FILE = "100GB"
"""SDXL's UNet in fp32 has more than the 10 GB at which diffusers would split it; its authors did not."""


def save(pipeline: Any, base: BaseModel, out: Path) -> Path:
    """Write a pipeline of the base model with its UNet, in the type it has, and its scheduler as a diffusers folder.

    Raises:
        HubError: the base's files cannot be fetched.
    """
    family: Family = FAMILIES.get(base.family)
    for part in ("vae", *family.text_parts):
        _copy_part(base, part, out / part)
    pipeline.unet.save_pretrained(out / "unet", safe_serialization=True, max_shard_size=_ONE_FILE)
    for part, name in (("unet", "config.json"), ("scheduler", "scheduler_config.json")):
        _write_json(out / part / name, plain_config(getattr(pipeline, part), own_json(base, f"{part}/{name}")))
    _write_json(out / INDEX, _index(own_json(base, INDEX), family, type(pipeline.scheduler).__name__))
    return out


def _copy_part(base: BaseModel, part: str, out: Path) -> None:
    """A part's own files; weights that were saved compiled or distributed under the names that libraries know."""
    out.mkdir(parents=True, exist_ok=True)
    files = part_files(base, part)
    if (found := unwrapped_weights(base, part)) is not None:
        files = {CONFIG: files[CONFIG]}
        save_file(found, out / f"{weights_stem(part)}.safetensors", metadata={"format": "pt"})
    for name, file in files.items():
        shutil.copyfile(file, out / name)


def plain_config(part: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a diffusers model or scheduler without fields that say nothing.

    Left are those that the base's configuration `own` names and those that differ from the default. Each new version
    of diffusers adds fields; an older one does not know them, and their defaults mean that nothing is new.
    """
    known = inspect.signature(type(part).__init__).parameters.values()
    fields = {field.name: field.default for field in known if field.name in part.config}
    kept = {name: part.config[name] for name, value in fields.items() if name in own or part.config[name] != value}
    return {"_class_name": type(part).__name__, "_diffusers_version": diffusers.__version__, **kept}


def _index(own: Mapping[str, Any], family: Family, scheduler: str) -> dict[str, Any]:
    """The base's `model_index.json` with another scheduler, and without the parts that are not published."""
    index = {name: value for name, value in own.items() if name != "_name_or_path"}
    for name, value in family.absent.items():
        if value is not None:
            index[name] = value
        elif name in index:
            index[name] = [None, None]
    return index | {"scheduler": ["diffusers", scheduler]}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
