"""The names of the presets' methods stay; every other loss has one of its own."""

from __future__ import annotations

import pytest

from pipeline_lib.core.names import model_name
from pipeline_lib.presets import METHODS, PRESETS, alignment
from pipeline_lib.training import methods


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("method", METHODS)
def test_models_of_the_presets_are_named_after_their_training_flow(preset: str, method: str) -> None:
    assert model_name(preset, alignment(preset, method).train.method) == f"{method}-{preset}"


def test_no_two_losses_share_a_name() -> None:
    names = [model_name("sdxl", loss) for loss in methods.METHODS]
    assert len(set(names)) == len(names)
    assert {"ipo-sdxl", "adaptive-ipo-sdxl", "sft-chosen-sdxl", "robust-dpo-sdxl"} <= set(names)
