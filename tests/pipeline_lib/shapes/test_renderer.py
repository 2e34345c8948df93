from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipeline_lib.shapes import renderer
from pipeline_lib.shapes.grammar import SHAPES, Scene


def scene(**changes: str) -> Scene:
    return dataclasses.replace(Scene("large", "red", "circle", "", "black"), **changes)


def test_colours_stand_where_the_caption_says() -> None:
    (image,) = renderer.ideal([scene(place="left", background="tan")])
    assert image.shape == (32, 32, 3)
    np.testing.assert_allclose(image[16, 10], (0.90, 0.12, 0.12), atol=1e-6)
    np.testing.assert_allclose(image[16, 28], (0.80, 0.67, 0.48), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_stay_inside_the_picture_and_grow_with_size(shape: str) -> None:
    areas = []
    for size in ("small", "large"):
        drawn = renderer.layout([scene(shape=shape, size=size, place=place) for place in ("left", "top", "bottom")])
        cover = renderer.coverage(drawn.shape, drawn.radius, drawn.centre)
        areas.append(cover.sum(axis=(1, 2)))
        assert cover.min() == 0
        assert cover.max() == 1
    assert (areas[1] > 1.8 * areas[0]).all()
    np.testing.assert_allclose(areas[0], areas[0][0], rtol=0.02)


def test_a_circle_has_its_area() -> None:
    drawn = renderer.layout([scene()])
    area = renderer.coverage(drawn.shape, drawn.radius, drawn.centre).sum()
    assert area == pytest.approx(np.pi * 8.0**2, rel=0.01)


def test_faults_do_what_they_say() -> None:
    drawn = renderer.layout([scene()] * 5)
    faults = dataclasses.replace(
        renderer.no_faults(5),
        saturation=np.array([1, 0, 1, 1, 1], dtype=np.float32),
        blur=np.array([0, 0, 1.5, 0, 0], dtype=np.float32),
        noise=np.array([0, 0, 0, 0.1, 0], dtype=np.float32),
        block=np.array([1, 1, 1, 1, 4]),
    )
    plain, grey, blurred, noisy, mosaic = renderer.render(drawn, faults, seed=1)
    np.testing.assert_allclose(plain, renderer.ideal([scene()])[0], atol=1e-6)
    assert np.ptp(grey, axis=-1).max() < 1e-5
    assert np.abs(np.diff(blurred, axis=0)).max() < 0.6 * np.abs(np.diff(plain, axis=0)).max()
    assert noisy[:4, :4].std() > 0.03
    assert (mosaic[:4, :4] == mosaic[0, 0]).all()


def test_noise_is_the_same_for_the_same_seed_only() -> None:
    drawn = renderer.layout([scene()])
    faults = dataclasses.replace(renderer.no_faults(1), noise=np.array([0.1], dtype=np.float32))
    first, again, other = (renderer.render(drawn, faults, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_jpeg_keeps_the_picture() -> None:
    image = renderer.to_uint8(renderer.ideal([scene(shape="cross", background="tan")]))[0]
    data = renderer.encode_jpeg(image)
    assert data[:2] == b"\xff\xd8"
    assert np.abs(renderer.decode(data) - image / 255).mean() < 0.012
