"""Sizes of the presets' base models, as the presets declare them."""

from __future__ import annotations

from pipeline_lib.presets import PRESETS
from pipeline_lib.presets.common import FP32 as FP32

TOKENS = 77
LATENT_CHANNELS = 4
REDUCTION = 8
"""Pixels of an image's side per pixel of its latent's."""
FP16 = 2

BASES = {name: one.sizes for name, one in PRESETS.items() if one.sizes}
"""By preset; those without sizes are left out."""
