"""One LoRA, with random weights, in the formats of several trainers; and the UNet that it makes by plain diffusers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

RANK, ALPHA = 2, 6
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
KOHYAS = (*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
"""The layers that kohya's trainer adapts in a UNet; SD1.5's proj_in and proj_out are convolutions of 1 x 1."""
CONVOLUTIONS = ("conv1", "conv_shortcut")

Weights = dict[str, Tensor]


def pipeline(folder: Path) -> Any:
    """The base by plain diffusers."""
    return DiffusionPipeline.from_pretrained(folder)


def weights(folder: Path, targets: tuple[str, ...] = ATTENTION, rank: int = RANK, alpha: int = RANK) -> Weights:
    """A LoRA in PEFT's names, without prefix: `<layer>.lora_A.weight`, `<layer>.lora_B.weight`."""
    unet = pipeline(folder).unet
    torch.manual_seed(3)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets)))
    found = {name: torch.randn_like(tensor) * 0.2 for name, tensor in get_peft_model_state_dict(unet).items()}
    assert found
    return found


def old_diffusers(lora: Weights) -> Weights:
    """As diffusers wrote attention processors before it used PEFT."""
    old = {}
    for name, tensor in lora.items():
        layer, part = name.removesuffix(".weight").rsplit(".", 1)
        block, _, projection = layer.removesuffix(".0").rpartition(".")
        assert projection in ("to_q", "to_k", "to_v", "to_out")
        old[f"unet.{block}.processor.{projection}_lora.{'down' if part == 'lora_A' else 'up'}.weight"] = tensor
    return old


def diffusers_names(lora: Weights) -> Weights:
    """As diffusers writes: `unet.<layer>.lora.down.weight`."""
    return {f"unet.{name.replace('lora_A', 'lora.down').replace('lora_B', 'lora.up')}": t for name, t in lora.items()}


def peft_names(lora: Weights) -> Weights:
    """As today's diffusers writes: `unet.<layer>.lora_A.weight`."""
    return {f"unet.{name}": tensor for name, tensor in lora.items()}


def kohya(lora: Weights, alpha: float = RANK) -> Weights:
    """As kohya's trainer writes; alphas of its own."""
    named = convert_state_dict_to_kohya({f"unet.{name}": tensor for name, tensor in lora.items()})
    return {
        name.replace("unet_", "lora_unet_", 1) if not name.startswith("lora_") else name: (
            torch.tensor(float(alpha)) if name.endswith(".alpha") else tensor
        )
        for name, tensor in named.items()
    }


FORMATS: dict[str, Callable[[Weights], Weights]] = {
    "diffusers, old": old_diffusers,
    "diffusers": diffusers_names,
    "diffusers with PEFT": peft_names,
    "no prefix": lambda lora: lora,
    "adapter's name": lambda lora: {name.replace(".weight", ".default_0.weight"): t for name, t in lora.items()},
    "kohya": kohya,
    "compiled": lambda lora: {f"unet._orig_mod.{name}": t for name, t in lora.items()},
    "blocks compiled": lambda lora: {name.replace(".attn", "._orig_mod.attn"): t for name, t in lora.items()},
    "DDP": lambda lora: {f"module.unet.{name}": t for name, t in lora.items()},
    "DDP, compiled": lambda lora: {f"module._orig_mod.{name}": t for name, t in lora.items()},
    "DDP, kohya": lambda lora: {f"module.{name}": t for name, t in kohya(lora).items()},
    "compiled, kohya": lambda lora: {n.replace("unet_", "unet__orig_mod_", 1): t for n, t in kohya(lora).items()},
}
"""Trainer -> the same LoRA in its names."""


def save_peft(base: Path, lora: Weights, out: Path, **settings: Any) -> Path:
    """A folder as PEFT's own `save_pretrained` writes it."""
    unet = pipeline(base).unet
    model = get_peft_model(
        unet, LoraConfig(**{"r": RANK, "lora_alpha": ALPHA, "target_modules": list(ATTENTION)} | settings)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(lora[name.removeprefix("base_model.model.").replace(".default.", ".")])
    model.save_pretrained(out)
    assert json.loads((out / "adapter_config.json").read_text())["lora_alpha"] == settings.get("lora_alpha", ALPHA)
    return out


def save(lora: Weights, file: Path, metadata: dict[str, str] | None = None) -> Path:
    """A file in the format safetensors."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in lora.items()}, file, metadata=metadata)
    return file


def fused_by_diffusers(base: Path, lora: Weights) -> Weights:
    """The UNet's weights after plain diffusers loaded and fused a LoRA."""
    plain = pipeline(base)
    plain.load_lora_weights(lora)
    plain.fuse_lora()
    plain.unload_lora_weights()
    found: Weights = plain.unet.state_dict()
    return found
