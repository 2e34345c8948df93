"""The registry of scorers: add one with a file that declares an `ImageScorer`, and a line here."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.core.registry import Registry
from pipeline_lib.scoring.base import ImageScorer, Tower, WeightsFile

SCORERS: Registry[ImageScorer] = Registry(
    "scorer",
    {
        "clip": "pipeline_lib.scoring.clip:L14_SCORER",
        "clip-h14": "pipeline_lib.scoring.clip:H14_SCORER",
        "pickscore": "pipeline_lib.scoring.pickscore:SCORER",
        "hpsv2": "pipeline_lib.scoring.hpsv2:V21",
        "hpsv2-antialias": "pipeline_lib.scoring.hpsv2:V21_ANTIALIAS",
        "hpsv2.0": "pipeline_lib.scoring.hpsv2:V20",
        "hpsv2.0-antialias": "pipeline_lib.scoring.hpsv2:V20_ANTIALIAS",
        "aesthetic": "pipeline_lib.scoring.aesthetic:SCORER",
        "imagereward": "pipeline_lib.scoring.imagereward:SCORER",
    },
    group="scorers",
)


def defaults() -> tuple[str, ...]:
    """The scorers that presets run: this project's that say so, in the registry's order."""
    return tuple(name for name in SCORERS.own if SCORERS.get(name).default)


def files_of(scorers: Sequence[str]) -> list[WeightsFile]:
    """What these scorers read, each once."""
    return list(dict.fromkeys(file for name in scorers for file in SCORERS.get(name).needs))


def towers_of(scorers: Sequence[str]) -> list[Tower]:
    """The image towers of these scorers, shared ones once."""
    return list(dict.fromkeys(SCORERS.get(name).tower for name in scorers))


def embedding_scorer(scorers: Sequence[str]) -> str | None:
    """The scorer among `scorers` whose image tower embeds images at the least cost, None when none does.

    Of towers of the same cost it is the first by the registry's order.
    """
    embedding = [one for name in SCORERS if name in scorers and (one := SCORERS.get(name)).embeds]
    return min(embedding, key=lambda one: one.tower.flops).name if embedding else None
