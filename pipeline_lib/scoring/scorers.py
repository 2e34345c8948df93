"""The registry of scorers: add one with a file that has a `locate` function, and a line here."""

from __future__ import annotations

from pipeline_lib.core.registry import Registry
from pipeline_lib.scoring.base import LocateScorer

SCORERS: Registry[LocateScorer] = Registry(
    "scorer",
    {
        "clip": "pipeline_lib.scoring.clip:locate_l14",
        "clip-h14": "pipeline_lib.scoring.clip:locate_h14",
        "pickscore": "pipeline_lib.scoring.pickscore:locate",
        "hpsv2": "pipeline_lib.scoring.hpsv2:locate_v21",
        "hpsv2-antialias": "pipeline_lib.scoring.hpsv2:locate_v21_antialias",
        "hpsv2.0": "pipeline_lib.scoring.hpsv2:locate_v20",
        "hpsv2.0-antialias": "pipeline_lib.scoring.hpsv2:locate_v20_antialias",
        "aesthetic": "pipeline_lib.scoring.aesthetic:locate",
        "imagereward": "pipeline_lib.scoring.imagereward:locate",
    },
)
