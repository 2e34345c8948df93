"""Weights without a pipeline: a UNet alone, or a LoRA, as people publish them. Which files of a folder they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.core.weights.files import CONFIG, DIFFUSERS, PICKLES, json_object, locate
from pipeline_lib.models.lora_settings import LORA_WEIGHTS, PEFT_CONFIG, PEFT_WEIGHTS
from pipeline_lib.models.parts import own_json

UNET = "unet"
SAFE = ".safetensors"

_INTERFACE = {
    "in_channels": 4, "out_channels": 4, "cross_attention_dim": 1280, "encoder_hid_dim": None,
    "encoder_hid_dim_type": None, "addition_embed_type": None, "addition_time_embed_dim": None,
    "projection_class_embeddings_input_dim": None, "class_embed_type": None,
}  # fmt: skip
"""Fields of a UNet's configuration, with their defaults, that say what it takes from text encoders and pipeline."""


@dataclass(frozen=True)
class Weights:
    """A UNet's folder or a LoRA's file; neither is the base itself."""

    unet: Path | None = None
    lora: Path | None = None


@dataclass(frozen=True)
class Names:
    """The same as they are named in a folder or repository: the UNet's folder ("." is the whole), the LoRA's file."""

    unet: str | None = None
    lora: str | None = None


def names_among(where: str, files: Iterable[str]) -> Names | None:
    """The UNet or the LoRA among the files of a folder or repository `where`, by paths in it; None for neither.

    Raises:
        CheckpointError: both are there, or several LoRAs, or only pickles.
    """
    paths = [PurePosixPath(file) for file in files if not file.startswith(".")]
    top = {path.name for path in paths if len(path.parts) == 1}
    below = {path.name for path in paths if len(path.parts) == 2 and path.parts[0] == UNET}
    unet = next((where for where, own in ((UNET, below), (".", top)) if _holds_unet(own)), None)
    loras = sorted(name for name in top if name.endswith(SAFE) and not name.startswith(DIFFUSERS))
    loras = [name for name in (LORA_WEIGHTS, PEFT_WEIGHTS) if name in loras] or loras
    if unet and loras:
        raise CheckpointError(
            f"{where} holds a UNet and a LoRA, {loras[0]}: which may be merged in it already, or not.",
            f"Name one of them: the folder of the UNet, or the file {loras[0]}.",
        )
    if len(loras) > 1:
        raise CheckpointError(f"{where} holds several LoRAs: {', '.join(loras)}.", "Name the file of one.")
    if unet or loras:
        return Names(unet, loras[0] if loras else None)
    _refuse_pickles(where, top)
    return None


def weights_in(place: Path) -> Weights:
    """The UNet or the LoRA that a folder holds or a file is.

    A folder holds a UNet below `unet/` or as it is, or a LoRA: `pytorch_lora_weights.safetensors`, PEFT's
    `adapter_model.safetensors`, or the one file in the format safetensors.

    Raises:
        CheckpointError: there is none, or not one alone, or it is a pickle.
    """
    if place.is_file():
        _refuse_pickles(str(place.parent), [place.name])
        whole = place.name.startswith(DIFFUSERS) and (place.parent / CONFIG).is_file()
        return Weights(unet=place.parent) if whole else Weights(lora=place)
    found = names_among(str(place), listed(place))
    if found is None:
        raise CheckpointError(
            f"{place} holds neither {LORA_WEIGHTS} nor a {UNET} folder.",
            "Give a directory that training wrote, a folder with a UNet, or a LoRA.",
        )
    return Weights(unet=place / found.unet) if found.unet else Weights(lora=place / str(found.lora))


def files_of_weights(weights: Weights) -> list[Path]:
    """The files that decide what a UNet or a LoRA is."""
    if weights.unet:
        return [weights.unet / CONFIG, *locate(weights.unet, DIFFUSERS).plain().values()]
    beside = [weights.lora.with_name(PEFT_CONFIG)] if weights.lora and weights.lora.name == PEFT_WEIGHTS else []
    return [file for file in [weights.lora, *beside] if file and file.is_file()]


def listed(folder: Path) -> list[str]:
    """The files of a folder that decide what it holds: its own, and those of a UNet below."""
    return [
        path.relative_to(folder).as_posix()
        for path in (*folder.glob("*"), *folder.glob(f"{UNET}/*"))
        if path.is_file()
    ]


def check_interface(folder: Path, base: BaseModel) -> None:
    """Raise CheckpointError unless the UNet in a folder takes what the base's text encoders and pipeline give it."""
    own, theirs = json_object(folder / CONFIG), own_json(base, f"{UNET}/{CONFIG}")
    sides = [{name: side.get(name, default) for name, default in _INTERFACE.items()} for side in (own, theirs)]
    wrong = [name for name in _INTERFACE if sides[0][name] != sides[1][name]]
    if wrong:
        told = ", ".join(f"{name} {sides[0][name]} instead of {sides[1][name]}" for name in wrong)
        raise CheckpointError(
            f"{folder} does not fit {base.repo}: {told}.", "Give the base model that this UNet was trained from."
        )


def _holds_unet(names: set[str]) -> bool:
    return CONFIG in names and any(name.startswith(DIFFUSERS) for name in names)


def _refuse_pickles(where: str, names: Iterable[str]) -> None:
    if found := sorted(name for name in names if name.endswith(PICKLES)):
        raise CheckpointError(
            f"{where} holds its weights as a pickle, {found[0]}: loading one can run any code in it.",
            "Ask its authors for safetensors; or, where you trust them, read it by torch.load(..., weights_only=True) "
            "and write it by safetensors.torch.save_file.",
        )
