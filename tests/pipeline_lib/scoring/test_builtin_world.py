"""The built-in world's checkpoints go through the same loaders as the official ones, and rank images sensibly."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline_lib.core.hub import SHAPES_MIRROR
from pipeline_lib.scoring.engine import load_scorers, score_images
from pipeline_lib.shapes import HUB
from tests.pipeline_lib.scoring.conftest import NAMES


def test_all_five_load_and_tell_the_right_caption() -> None:
    if not HUB.is_dir():
        pytest.skip(f"no built-in weights at {HUB} (python -m pipeline_lib.shapes build)")
    from pipeline_lib.shapes.grammar import parse
    from pipeline_lib.shapes.renderer import ideal, to_uint8

    captions = ["a large red circle on a dark blue background", "a small green square on a tan background"]
    images = [Image.fromarray(pixels) for pixels in to_uint8(ideal([parse(caption) for caption in captions]))]
    scorers = load_scorers(NAMES, SHAPES_MIRROR, "cpu")
    values = score_images(scorers, images * 2, captions + captions[::-1])
    for scorer in scorers:
        right, wrong = values[scorer.name].reshape(2, 2)
        assert np.isfinite([right, wrong]).all()
        if scorer.needs_prompt:
            assert right.mean() > wrong.mean(), scorer.name
        else:
            np.testing.assert_allclose(right, wrong, atol=1e-5)
