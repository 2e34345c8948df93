"""Reward models: how good is this image (for this prompt)? One file per scorer, one line each in SCORERS.

A scorer is loaded once, from the official checkpoint files, and called by the engine, which decodes every image once
for all scorers. Recipes follow the original packages; deviations are stated in the scorer's file.
"""

from pipeline_lib.scoring.engine import identities, load_scorers, score_images
from pipeline_lib.scoring.scorers import SCORERS
from pipeline_lib.scoring.stage import open_work, score, score_shard

__all__ = ["SCORERS", "identities", "load_scorers", "open_work", "score", "score_images", "score_shard"]
