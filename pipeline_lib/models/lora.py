"""LoRAs in files: read strictly, whoever wrote them, and added to a UNet's weights as PEFT does.

diffusers' loader leaves out what does not fit, with a line in the log or none. Here every tensor of a file has its
place in the UNet, or the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.functional import conv2d

from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.models.lora_names import Place, layers_of, of_peft, other_kind, places
from pipeline_lib.models.lora_settings import read_settings, scale_of

_SHOWN = 3


@dataclass(frozen=True)
class Change:
    """What a LoRA adds to one layer's weight: scale * up @ down, in fp32."""

    down: Tensor
    up: Tensor
    scale: float


def read_lora(path: Path, unet: Any, base: str) -> dict[str, Change]:
    """What the LoRA in a file changes, by the names of the layers of `unet`, which may be on the device "meta".

    Args:
        base: what an error calls the model of which `unet` is.

    Raises:
        CheckpointError: the file cannot be read, is something else than a LoRA of a UNet, or has one weight that does
            not fit or is not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            _check_kind(path, names)
            settings = read_settings(path, file.metadata() or {}, of_peft(names))
            where = _fitting(path, names, unet, base)
            return _changes(path, {name: file.get_tensor(name) for name in names}, where, unet, settings, base)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a LoRA: {error}.", "Give a LoRA in the format safetensors, or copy it again."
        ) from error


@torch.no_grad()
def fuse(unet: Any, changes: Mapping[str, Change]) -> None:
    """Add a LoRA to the weights of a UNet in fp32, bit for bit as PEFT merges it."""
    layers = layers_of(unet)
    for name, change in changes.items():
        weight = layers[name].weight
        weight.add_(_product(change, weight.shape))


def _product(change: Change, shape: torch.Size) -> Tensor:
    down, up = change.down, change.up
    if len(shape) == 2:
        return (up @ down) * change.scale
    if shape[2:] == (1, 1):
        return (up[:, :, 0, 0] @ down[:, :, 0, 0])[:, :, None, None] * change.scale
    return conv2d(down.transpose(0, 1), up).transpose(0, 1) * change.scale


def _check_kind(path: Path, names: list[str]) -> None:
    if not names:
        raise CheckpointError(f"{path} holds no weights.", "Give a LoRA of the UNet.")
    if found := other_kind(names):
        kind, which = found
        raise CheckpointError(
            f"{path} holds {kind}: {len(which)} of {len(names)} tensors, {_list(which)}; only a UNet's LoRA is read.",
            "Train or save a LoRA of the UNet alone; or load the file in the tool that wrote it, merge it there, and "
            "give the whole pipeline as a diffusers folder.",
        )


def _fitting(path: Path, names: list[str], unet: Any, base: str) -> dict[Place, str]:
    """Place -> name; raises CheckpointError where a name has none, or two have one."""
    found = places(names, unet)
    if unfit := [name for name, place in found.items() if place is None]:
        raise _misfit(path, base, f"{len(unfit)} of {len(names)} weights have no place there, {_list(unfit)}")
    where: dict[Place, str] = {}
    for name, place in found.items():
        if place and (before := where.setdefault(Place(place.layer, place.part), name)) != name:
            raise CheckpointError(
                f"{path} holds two weights for one place: {before} and {name}.", "Give a file with one LoRA."
            )
    return where


def _changes(
    path: Path,
    tensors: Mapping[str, Tensor],
    where: Mapping[Place, str],
    unet: Any,
    settings: Mapping[str, Any] | None,
    base: str,
) -> dict[str, Change]:
    broken = [name for name, t in tensors.items() if not (t.is_floating_point() and t.float().isfinite().all())]
    if broken:
        raise CheckpointError(
            f"{path}: {len(broken)} of {len(tensors)} weights are not finite numbers, {_list(broken)}.",
            "Its training diverged, or its file is damaged: give another checkpoint of it.",
        )
    layers, changes, wrong = layers_of(unet), {}, []
    for layer in dict.fromkeys(place.layer for place in where):
        names = {part: where.get(Place(layer, part)) for part in ("down", "up", "alpha")}
        down, up, alpha = (tensors[name].float() if name else None for name in names.values())
        if down is None or up is None:
            wrong.append(f"{next(filter(None, names.values()))} without its other half")
        elif problem := _shape_problem(down, up, layers[layer].weight.shape):
            wrong.append(f"{names['up']} and its other half: {problem}")
        else:
            changes[layer] = Change(down, up, scale_of(path, layer, len(down), alpha, settings))
    if wrong:
        raise _misfit(path, base, f"{len(wrong)} of its {len(where)} layers and weights do not, {_list(wrong)}")
    return changes


def _shape_problem(down: Tensor, up: Tensor, weight: torch.Size) -> str:
    rank, kernel = down.shape[:1], weight[2:]
    ones = torch.Size([1] * len(kernel))
    if down.shape == rank + weight[1:] and up.shape == weight[:1] + rank + ones and rank.numel() > 0:
        return ""
    return f"{list(up.shape)} x {list(down.shape)} for a weight of {list(weight)}"


def _misfit(path: Path, base: str, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{path} does not fit the UNet of {base}: {problem}.", "Give the base model that this LoRA was trained from."
    )


def _list(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
