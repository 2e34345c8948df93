"""What a run leaves alone that is told where its pairs or weights are: the model hub."""

from __future__ import annotations

import logging

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.hub import HUB
from pipeline_lib.generation.prompts import HUB_SETS, load_prompts
from pipeline_lib.presets import preset as find_preset

HUB_URL = "hf://"

logger = logging.getLogger(__name__)


def held_out_pairs(preset: str, source: str | None, weights: str | None) -> IngestConfig | None:
    """The preset's held-out pairs; None where it has none, or where they are on the hub and the run's pairs or
    weights are not, which the log says.

    Args:
        source: where the pairs come from; None for the preset's source.
        weights: where reward models come from; None for the preset's.
    """
    config = find_preset(preset).held_out
    if config is None or not config.source.startswith(HUB_URL):
        return config
    elsewhere = [source] if source and not source.startswith(HUB_URL) else []
    if mirror := elsewhere or _mirrors(weights):
        logger.warning(
            "no held-out pairs are used: those of %s are on the hub (%s), and this run was told to use %s. To measure "
            "the implicit reward, run ingest on such pairs and give its dataset: heldout=<URI>",
            preset,
            config.source,
            mirror[0],
        )
        return None
    return config


def check_prompts(preset: str, prompts: str | None, num_prompts: int | None, weights: str | None) -> None:
    """Find the prompts that an evaluation will need before anything is trained for it.

    Args:
        prompts: a set's name or a file, as a person gave it; None for the preset's.

    Raises:
        ConfigError: the preset's prompts are on the hub, and the weights are not; or see `load_prompts`.
        HubError: the prompts are on the hub, which cannot be reached.
    """
    chosen = prompts or find_preset(preset).evaluate.prompts
    if prompts is None and chosen in HUB_SETS and (mirror := _mirrors(weights)):
        raise ConfigError(
            f"The prompts of {preset}, {chosen}, are on the hub, and this run was told to use {mirror[0]}.",
            "Give a file with one prompt per line, prompts=/path/prompts.txt, or name the set to have it fetched: "
            f"prompts={chosen}.",
        )
    if chosen in HUB_SETS:
        load_prompts(chosen, num_prompts)


def _mirrors(weights: str | None) -> list[str]:
    return [weights] if weights and weights != HUB else []
