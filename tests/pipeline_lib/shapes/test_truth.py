from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from pipeline_lib.shapes import renderer, true_utility, truth, web
from pipeline_lib.shapes.grammar import all_captions, parse

CAPTIONS = list(all_captions()[::7])
NEVER = web.Mixture(**dict.fromkeys((field.name for field in dataclasses.fields(web.Mixture)), 0.0))


def ideal() -> renderer.Floats:
    return renderer.ideal([parse(caption) for caption in CAPTIONS])


def test_ideal_renderings_reach_nearly_the_greatest_utility() -> None:
    values = true_utility(ideal(), CAPTIONS)
    assert values.min() > 0.93 * sum(truth.WEIGHTS.values())


@pytest.mark.parametrize(
    ("fault", "attribute", "at_most"),
    [
        ("wrong_colour", "colour", 0.35),
        ("wrong_shape", "shape", 0.6),
        ("wrong_background", "background", 0.4),
        ("displaced", "place", 0.55),
        ("muted", "vividness", 0.7),
        ("blurred", "sharpness", 0.5),
        ("noisy", "cleanness", 0.75),
    ],
)
def test_each_fault_lowers_its_attribute_and_the_utility(fault: str, attribute: str, at_most: float) -> None:
    faulty = web.draw(CAPTIONS, np.random.default_rng(1), dataclasses.replace(NEVER, **{fault: 1.0}))
    parts = truth.attributes(faulty, CAPTIONS)
    assert parts[:, truth.ATTRIBUTES.index(attribute)].mean() < at_most
    best = true_utility(ideal(), CAPTIONS)
    assert (truth.utility(parts) < best).mean() > 0.75
    assert truth.utility(parts).mean() < best.mean() - 0.25


def test_muting_leaves_the_other_attributes_alone() -> None:
    muted = web.draw(CAPTIONS, np.random.default_rng(1), dataclasses.replace(NEVER, muted=1.0))
    parts = truth.attributes(muted, CAPTIONS).mean(axis=0)
    others = [part for name, part in zip(truth.ATTRIBUTES, parts, strict=True) if name != "vividness"]
    assert min(others) > 0.9


def test_another_caption_is_worse() -> None:
    shifted = CAPTIONS[1:] + CAPTIONS[:1]
    assert (true_utility(ideal(), shifted) < true_utility(ideal(), CAPTIONS)).all()


def test_bytes_and_floats_measure_alike() -> None:
    images = ideal()
    np.testing.assert_allclose(
        true_utility(renderer.to_uint8(images), CAPTIONS), true_utility(images, CAPTIONS), atol=0.05
    )


def test_empty_and_blank_pictures_are_measured() -> None:
    assert true_utility(np.zeros((0, 32, 32, 3)), []).shape == (0,)
    blank = np.full((len(CAPTIONS), 32, 32, 3), 0.5, dtype=np.float32)
    values = true_utility(blank, CAPTIONS)
    assert np.isfinite(values).all()
    assert values.mean() < 3.5


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one 32x32 RGB image per caption"):
        true_utility(np.zeros((1, 64, 64, 3)), CAPTIONS[:1])


def test_hundreds_of_images_per_second_of_processor_time() -> None:
    images = ideal()
    started = time.process_time()
    true_utility(images, CAPTIONS)
    assert len(images) / (time.process_time() - started) > 200
