"""UNets, VAEs and text encoders that are fed all that they were trained with; by their configuration files.

A UNet that wants a mask, a class or the guidance scale, or a VAE whose latents are shifted, loads and runs without an
error where it is not asked for that. It is then another model than the one that was published.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.core.weights.files import CONFIG
from pipeline_lib.models.configs import Config, read_config
from pipeline_lib.models.family import Family

TOKENIZER = "tokenizer_config.json"
_UNFED = {
    "class_embed_type": "it is conditioned on classes, which no prompt gives",
    "num_class_embeds": "it is conditioned on classes, which no prompt gives",
    "class_embeddings_concat": "it is conditioned on classes, which no prompt gives",
    "time_cond_proj_dim": "it is told the guidance scale, as consistency models (LCM) are, which training does not do",
    "encoder_hid_dim": "it projects another encoder's output, which training does not give it",
    "encoder_hid_dim_type": "it projects another encoder's output, which training does not give it",
}
_SKIPPED = "hidden states are taken where the stock pipeline takes them"
_SHIFTED = "latents are scaled here, and not shifted"
_CLIP_DEFAULTS = {"hidden_size": 512, "projection_dim": 512, "max_position_embeddings": 77}
"""transformers' own, for a CLIPTextConfig without the field."""


def check_unet(config: Config, family: Family | None = None) -> int:
    """Check a UNet's configuration; returns the channels of its latents.

    Args:
        family: whose conditioning it is to be given; None checks what is the same for all.

    Raises:
        ConfigError: it wants what no family of this pipeline feeds, or not what this one does.
    """
    config.one_of("_class_name", ("UNet2DConditionModel", None), None)
    for name, meaning in _UNFED.items():
        config.absent(name, meaning)
    config.one_of("attention_type", ("default",), "default", "which wants boxes or the like beside the prompt")
    channels, out = config.whole("in_channels", 4, 1, 1024), config.whole("out_channels", 4, 1, 1024)
    if channels != out:
        raise config.refusal(
            f"the UNet takes {channels} channels and gives {out}: it wants an image, mask or depth map beside the "
            "latents, or predicts a variance, too"
        )
    if family:
        meaning = f"where the family {family.name!r} gives its UNet no more than its own"
        config.one_of("addition_embed_type", family.added_embeddings, None, meaning)
    return channels


def check_vae(config: Config, family: Family) -> int:
    """Check a VAE's configuration; returns the channels of its latents.

    Raises:
        ConfigError: another kind of autoencoder, latents that are shifted, or a scale that is not known.
    """
    config.one_of("_class_name", ("AutoencoderKL", None), None)
    for name in ("latents_mean", "latents_std", "shift_factor"):
        if config.fields.get(name) != 0:
            config.absent(name, _SHIFTED)
    for name in ("in_channels", "out_channels"):
        config.one_of(name, (3,), 3, "where images have red, green and blue")
    config.number("scaling_factor", 0.18215 if family.old_scale else None, 1e-6, 1e6)
    config.one_of("force_upcast", (True, False, None), True)
    return config.whole("latent_channels", 4, 1, 1024)


def check_index(index: Config) -> None:
    """Check what a pipeline's `model_index.json` says beside its parts; raises ConfigError."""
    index.absent("requires_aesthetics_score", "a refiner wants an aesthetic score beside the sizes")
    index.absent("clip_skip", _SKIPPED)


def class_of(index: Config, part: str) -> Any:
    """The class of a pipeline's part by its `model_index.json`; None where it has none."""
    entry = index.fields.get(part)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def check_texts(root: Path, parts: Sequence[str]) -> tuple[int, int]:
    """Check the text encoders and tokenizers of a pipeline's folder, by the names of its parts.

    Returns:
        the width of the prompts' embeddings, and of the pooled one.

    Raises:
        ConfigError: prompts would be cut at another length than the encoders have, or not alike for two of them.
    """
    files = {part: TOKENIZER if part.startswith("tokenizer") else CONFIG for part in parts}
    found = {part: read_config(root / part / name) for part, name in files.items()}
    tokenizers = {part: found[part] for part, name in files.items() if name == TOKENIZER}
    encoders = {part: found[part] for part, name in files.items() if name == CONFIG}
    lengths = {}
    for part, tokenizer in tokenizers.items():
        encoder = encoders[part.replace("tokenizer", "text_encoder")]
        encoder.absent("clip_skip", _SKIPPED)
        most = _text_field(encoder, "max_position_embeddings")
        length = tokenizer.fields.get("model_max_length")
        if not isinstance(length, int) or not 2 <= length <= most:
            raise tokenizer.refusal(
                f"model_max_length is {length}, but {encoder.path} has positions for 2 to {most} tokens",
                f"Set it to the length that the model was trained with, at most {most}.",
            )
        lengths[part] = length
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{part} {length}" for part, length in lengths.items())
        raise next(iter(tokenizers.values())).refusal(f"the tokenizers have several model_max_length: {told}")
    widths = [_text_field(encoder, "hidden_size") for encoder in encoders.values()]
    return sum(widths), _text_field(list(encoders.values())[-1], "projection_dim")


def check_together(unet: Config, text: tuple[int, int], channels: int) -> None:
    """Check that a UNet fits the embeddings of `check_texts` and latents of so many channels; raises ConfigError."""
    width, pooled = text
    taken = unet.fields.get("cross_attention_dim", 1280)
    if any(one != width for one in (taken if isinstance(taken, list) else [taken])):
        raise unet.refusal(f"it reads texts of width {taken}, but its text encoders make {width}")
    if unet.fields.get("in_channels", 4) != channels:
        raise unet.refusal(
            f"it reads latents of {unet.fields.get('in_channels', 4)} channels, but its VAE makes {channels}"
        )
    if unet.fields.get("addition_embed_type") == "text_time":
        per_id = unet.whole("addition_time_embed_dim", None, 1, 65_536)
        found = unet.whole("projection_class_embeddings_input_dim", None, 1, 1_048_576)
        if found != pooled + 6 * per_id:
            raise unet.refusal(
                f"it takes {found} numbers beside the prompt, which are not {pooled} of pooled text and 6 sizes of "
                f"{per_id}; SDXL's refiner has 5 of them, the last one an aesthetic score"
            )


def _text_field(encoder: Config, name: str) -> int:
    own: Any = encoder.fields.get("text_config", encoder.fields)  # CLIP as a whole keeps them a level below
    part = Config(encoder.path, own if isinstance(own, dict) else {})
    return part.whole(name, _CLIP_DEFAULTS[name], 1, 1_048_576)
