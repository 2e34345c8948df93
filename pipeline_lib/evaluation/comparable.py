"""Which models can be compared: different ones that paint from the same noise, at the size they were made for."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import ConfigError, excerpt
from pipeline_lib.core.store import Dataset
from pipeline_lib.core.weights.files import CONFIG
from pipeline_lib.models.configs import read_config
from pipeline_lib.models.identity import base_identity
from pipeline_lib.models.parts import folder, vae_folder

Latents = tuple[int, int, int]
"""Channels, side, and pixels per side of one latent."""


def check_comparable(models: Mapping[str, Dataset | None], bases: Mapping[str, BaseModel]) -> None:
    """Refuse what `evaluate` should not paint side by side. Fetches the models' files, loads no weights.

    Args:
        models: name -> dataset of stage "model", or None for a whole pipeline.
        bases: every model's pipeline: the one it was trained from, or the one that it is.

    Raises:
        ConfigError: fewer than two models, one model under two names, models of different families or latents, or of a
            kind that is not known here.
        HubError: a model cannot be fetched.
    """
    from pipeline_lib.models.supported import check_supported  # loads torch and diffusers

    if len(models) < 2:
        raise ConfigError(
            f"A comparison needs two or more models; got {', '.join(models) or 'none'}.", "Name another one."
        )
    if len({bases[name].family for name in models}) > 1:
        kinds = ", ".join(f"{name} is {bases[name].family}" for name in models)
        raise ConfigError(
            f"These models are of different families, which share no settings: {kinds}.",
            "Compare models of one family.",
        )
    known: dict[tuple[str, str | None], str] = {}
    for name, model in models.items():
        what = (model.digest if model else "", _identity(name, bases[name])["weights"])
        if what in known:
            raise ConfigError(f"{known[what]} and {name} are the same model.", "Name each model once.")
        known[what] = name
    for base in bases.values():
        check_supported(base)
    shapes = {name: latents(bases[name]) for name in models}
    if len(set(shapes.values())) > 1:
        sizes = [f"{name} {side * factor} px from {n} x {side} x {side}" for name, (n, side, factor) in shapes.items()]
        raise ConfigError(
            f"These models were made for different images or latents, so they share no noise: {', '.join(sizes)}.",
            "Compare models of one size.",
        )


def latents(base: BaseModel) -> Latents:
    """The latents that a base model was made for, from its configuration files."""
    unet = read_config(folder(base, ["unet"]) / "unet" / CONFIG)
    vae = read_config(vae_folder(base) / CONFIG)
    side = unet.fields.get("sample_size")
    if isinstance(side, list):  # height and width; here all images are square
        side = side[0] if len(set(side)) == 1 else None
    if not isinstance(side, int):
        raise unet.refusal(f"sample_size is {unet.fields.get('sample_size')}, no side of a square", "Write it there.")
    blocks = vae.fields.get("block_out_channels")
    if not isinstance(blocks, list):
        raise vae.refusal(f"block_out_channels is {excerpt(blocks)}, no list")
    return unet.fields.get("in_channels", 4), side, 2 ** (len(blocks) - 1)


def _identity(name: str, base: BaseModel) -> dict[str, str | None]:
    try:
        return base_identity(base)
    except ConfigError as error:
        remedy = "Compare models of one family, with a preset of that family."
        raise ConfigError(f"{name}: {error.problem}", remedy) from error
