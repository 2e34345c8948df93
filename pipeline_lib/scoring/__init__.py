"""Reward models: how good is this image (for this prompt)? One file per scorer, one line each in SCORERS.

A scorer is loaded once, from the official checkpoint files, and called by the engine, which decodes every image once
for all scorers. Recipes follow the original packages; deviations are stated in the scorer's file.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline_lib.scoring.engine import identities, load_scorers, score_images
    from pipeline_lib.scoring.scorers import SCORERS
    from pipeline_lib.scoring.stage import open_work, score, score_shard

__all__ = ["SCORERS", "identities", "load_scorers", "open_work", "score", "score_images", "score_shard"]

_HOMES = {
    "SCORERS": "scorers",
    **dict.fromkeys(("identities", "load_scorers", "score_images"), "engine"),
    **dict.fromkeys(("open_work", "score", "score_shard"), "stage"),
}


def __getattr__(name: str) -> Any:
    """Names are imported when they are used: decode workers start with Pillow and NumPy alone."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
