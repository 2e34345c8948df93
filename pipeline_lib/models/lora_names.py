"""The names that trainers give to the weights of a LoRA, and the layers of a UNet that they mean.

Read are diffusers' names, old (`attn1.processor.to_q_lora.down`) and new (`attn1.to_q.lora.down`, `.lora_A`), PEFT's
(`base_model.model.` before, an adapter's name inside), kohya's (`lora_unet_down_blocks_0_..._to_q.lora_down`, for SDXL
also by the blocks of Stability's code, `lora_unet_input_blocks_4_1_...`), and all of these as torch.compile, DDP and
FSDP wrap them. What changes more than the weights of single layers, or other models, is known by its names too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.utils import convert_unet_state_dict_to_peft

from pipeline_lib.core.weights.keys import plain_name

OTHERS: tuple[tuple[str, str], ...] = (
    ("weights of text encoders", r"^(module\.|_orig_mod\.)*(lora_te\d?_|te\d?[_.]|text_encoder)|\btext_model\."),
    ("a LoRA of a transformer, not of a UNet", r"^(module\.)*(lora_)?transformer[._]|^(double|single)_blocks\."),
    ("a LoHa (LyCORIS)", r"\.hada_"),
    ("a LoKr (LyCORIS)", r"\.lokr_"),
    ("a DoRA", r"dora_scale|lora_magnitude_vector"),
    ("a LoCon with a Tucker core (LyCORIS)", r"\.lora_mid\.|\.cp_"),
    ("an OFT or BOFT", r"\b(oft|boft)_|\.(oft|boft)_"),
    ("a GLoRA (LyCORIS)", r"\.[ab][12]\.weight$"),
    ("an IA3", r"\.ia3_|\.on_input$"),
    ("a VeRA or another LoRA with shared matrices", r"vera_|randlora_|\.lora_lambda"),
    ("differences of whole weights", r"\.(diff|diff_b|w_norm|b_norm)$"),
    ("a Control-LoRA", r"^lora_controlnet$"),
    ("a textual inversion", r"^(emb_params|string_to_param|clip_[lg]|bundle_emb)"),
    ("biases or embeddings", r"lora_[AB](\.\w+)?\.bias$|lora_embedding_|\.modules_to_save\."),
    ("a whole checkpoint in one file", r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\."),
)  # fmt: skip
"""What a file may hold instead of, or beside, a UNet's LoRA: what it is, and what its names look like."""

_PEFT = "base_model.model."
_PREFIX = re.compile(rf"^(unet\.|{re.escape(_PEFT)})+")
_KOHYA = "lora_unet_"
_WEIGHT = re.compile(r"(?P<layer>.+)\.lora_(?P<part>A|B|down|up)(?:\.(?P<adapter>\w+))?\.weight")
_ALPHA = re.compile(r"(?P<layer>.+)\.alpha")
_PARTS = {"A": "down", "B": "up", "down": "down", "up": "up"}


@dataclass(frozen=True)
class Place:
    """What one tensor of a file is: "down", "up" or "alpha" of a layer of the UNet, by the layer's name there."""

    layer: str
    part: str
    adapter: str = ""


def other_kind(names: Iterable[str]) -> tuple[str, list[str]] | None:
    """The first kind of `OTHERS` that some names are of, and these names; None where there is none."""
    names = sorted(names)
    for kind, pattern in OTHERS:
        if found := [name for name in names if re.search(pattern, name)]:
            return kind, found
    return None


def of_peft(names: Iterable[str]) -> bool:
    """Whether a PeftModel was saved: its names do not say by what a layer's product is scaled, as others do."""
    return any(_PEFT in plain_name(name) for name in names)


def layers_of(unet: Any) -> dict[str, Any]:
    """The layers of a UNet2DConditionModel that a LoRA can change, by name."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {name: module for name, module in unet.named_modules() if isinstance(module, kinds)}


def places(names: Iterable[str], unet: Any) -> dict[str, Place | None]:
    """What each name of a file means in `unet`; None for a name that means nothing there."""
    layers = layers_of(unet)
    flat = {name.replace(".", "_"): name for name in layers}
    found: dict[str, Place | None] = {}
    foreign: dict[str, str] = {}
    for name in names:
        parsed = _parsed(name)
        if parsed and parsed.layer.startswith(_KOHYA):
            own = parsed.layer.removeprefix(_KOHYA).replace("_orig_mod_", "").removeprefix("_").removeprefix("module_")
            foreign[name] = _KOHYA + own
            found[name] = Place(flat.get(own, own), parsed.part, parsed.adapter)
        else:
            found[name] = parsed
    unknown = [layer for layer in dict.fromkeys(foreign.values()) if layer.removeprefix(_KOHYA) not in flat]
    stability = _from_stability(unknown, unet.config)
    for name, layer in foreign.items():
        if (place := found[name]) and layer in stability:
            found[name] = Place(stability[layer], place.part, place.adapter)
    return {name: place if place and place.layer in layers else None for name, place in found.items()}


def _parsed(name: str) -> Place | None:
    """A name without its prefixes and wrappers, in one spelling; the layer is as the file has it."""
    plain = _PREFIX.sub("", plain_name(name))
    plain = re.sub(r"\.lora_(linear_)?layer\.", ".lora.", plain)
    (plain,) = convert_unet_state_dict_to_peft({plain: None})
    if match := _WEIGHT.fullmatch(plain):
        return Place(match["layer"], _PARTS[match["part"]], match["adapter"] or "")
    match = _ALPHA.fullmatch(plain)
    return Place(match["layer"], "alpha") if match else None


def _from_stability(layers: Iterable[str], config: Mapping[str, Any]) -> dict[str, str]:
    """kohya's names by the blocks of Stability's code, as diffusers' own conversion translates them."""
    found: dict[str, str] = {}
    for layer in layers:
        pair: dict[str, Any] = {f"{layer}.lora_{part}.weight": None for part in ("down", "up")}
        try:
            converted, _ = diffusers.StableDiffusionXLPipeline.lora_state_dict(pair, unet_config=config)
        except (ValueError, KeyError, IndexError):
            continue
        for name in convert_unet_state_dict_to_peft(converted):
            if match := _WEIGHT.fullmatch(name):
                found[layer] = match["layer"].removeprefix("unet.")
    return found
