"""Names of tensors: which are harmless, which are other spellings of a model's own, and which are wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.core.weights.files import Shape

POSITION_IDS = "embeddings.position_ids"
"""0, 1, 2, ...: older versions of transformers stored them."""
HARMLESS: Mapping[str, tuple[str, ...]] = {
    "CLIPTextModel": (POSITION_IDS, f"text_model.{POSITION_IDS}"),
    "CLIPTextModelWithProjection": (f"text_model.{POSITION_IDS}",),
    "CLIPModel": (f"text_model.{POSITION_IDS}", f"vision_model.{POSITION_IDS}"),
    "ImageReward": (
        f"blip.text_encoder.{POSITION_IDS}",
        *(f"blip.{side}_proj.{kind}" for side in ("vision", "text") for kind in ("weight", "bias")),
    ),
}
"""By class: names that a file may have although the model does not use them. ImageReward: BLIP's contrastive head."""
WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, DDP, FSDP and checkpointed blocks put between the names of modules."""
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""diffusers' names of attention before and after version 0.12; VAEs of that time are in use."""
FOREIGN = {
    "model.diffusion_model.": "an original Stable Diffusion checkpoint",
    "cond_stage_model.": "an original Stable Diffusion checkpoint",
    "first_stage_model.": "an original Stable Diffusion checkpoint",
    "conditioner.embedders.": "an original SDXL checkpoint",
    "input_blocks.": "an original Stable Diffusion UNet",
    "lora_unet_": "a LoRA in kohya's format",
    "lora_te": "a LoRA of a text encoder in kohya's format",
    "base_model.model.": "an adapter of PEFT",
}
"""How the names begin in files that people put in a diffusers model's place."""
REMEDY = "Fetch the repository again, and check that config.json belongs to these weights."
_CONVERT = (
    "Convert it: load the file with StableDiffusionPipeline.from_single_file or StableDiffusionXLPipeline's, then "
    "save_pretrained(<folder>)."
)
SHOWN = 12


def plain_name(name: str) -> str:
    """A tensor's name without what compiling and distributing put into it."""
    if any(wrapper in name for wrapper in WRAPPERS):
        return ".".join(part for part in name.split(".") if part not in WRAPPERS)
    return name


def match(
    found: Mapping[str, Shape], own: Mapping[str, Shape], kind: str, where: Path, remedy: str = REMEDY
) -> dict[str, str]:
    """Which of a file's tensors is which of a model's.

    Args:
        found: names and shapes of the file's tensors.
        own: names and shapes of the model's.
        kind: the model's class; it decides what is harmless.
        where: the file, for the error.

    Returns:
        The model's name of each tensor of the file that it uses: of all but the harmless ones.

    Raises:
        CheckpointError: names are missing, left over, repeated or of another shape; it lists them.
    """
    matched: dict[str, str] = {}
    unexpected = []
    for name in found:
        fitting = [spelling for spelling in _spellings(plain_name(name)) if spelling in own]
        if fitting:
            matched[name] = fitting[0]
        elif plain_name(name) not in HARMLESS.get(kind, ()):
            unexpected.append(name)
    taken: dict[str, str] = {}
    repeated = [
        f"{name} and {taken[own_name]}"
        for name, own_name in matched.items()
        if taken.setdefault(own_name, name) != name
    ]
    misshapen = [
        f"{name} is {found[name]}, expected {own[own_name]}"
        for name, own_name in matched.items()
        if found[name] != own[own_name]
    ]
    missing = own.keys() - matched.values()
    origin = next((what for start, what in FOREIGN.items() if any(n.startswith(start) for n in unexpected)), None)
    check_keys(
        where,
        missing,
        unexpected,
        misshapen,
        repeated,
        what=f"a {kind}" if origin is None else f"a {kind}: its names are those of {origin}",
        remedy=_CONVERT if origin and "original" in origin else remedy,
    )
    return matched


def check_keys(
    path: Path,
    missing: Iterable[str] = (),
    unexpected: Iterable[str] = (),
    misshapen: Iterable[str] = (),
    repeated: Iterable[str] = (),
    *,
    what: str = "the architecture",
    remedy: str = REMEDY,
) -> None:
    """Raise CheckpointError naming the keys, unless there are none."""
    problems = []
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen, "there twice": repeated}
    for kind, names in kinds.items():
        if found := sorted(names):
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            problems.append(f"{len(found)} {kind}: {', '.join(found[:SHOWN])}{more}")
    if problems:
        raise CheckpointError(f"{path} does not fit {what}. {'; '.join(problems)}.", remedy)


def _spellings(name: str) -> list[str]:
    """A name, and what other versions of the libraries call the same tensor."""
    spellings = [name, name.removeprefix("text_model."), f"text_model.{name}"]
    parts = name.split(".")
    if len(parts) > 2 and parts[-2] in OLD_ATTENTION:
        spellings.append(".".join([*parts[:-2], OLD_ATTENTION[parts[-2]], parts[-1]]))
    return spellings
