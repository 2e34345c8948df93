"""The windowed resize against PIL's own, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline_lib.scoring import resample
from pipeline_lib.scoring.resample import resize_crop, resize_rows

BICUBIC = Image.Resampling.BICUBIC
side = st.one_of(st.integers(1, 40), st.integers(1, 400))


def noise(width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def naive(image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Both axes in full, columns first, then the crop."""
    return image.resize((size[0], image.height), BICUBIC).resize(size, BICUBIC).crop(box)


@settings(max_examples=150, deadline=None)
@given(width=side, height=side, resized=st.integers(1, 600), data=st.data())
def test_rows_are_pils_to_the_bit(width: int, height: int, resized: int, data: st.DataObject) -> None:
    image = noise(width, height, 0)
    top = data.draw(st.integers(0, resized - 1))
    bottom = data.draw(st.integers(top + 1, resized))
    whole = np.asarray(image.resize((width, resized), BICUBIC))
    np.testing.assert_array_equal(resize_rows(np.asarray(image), resized, top, bottom), whole[top:bottom])


@pytest.mark.parametrize("largest", [0, 4096])
@settings(max_examples=60, deadline=None)
@given(width=side, height=side, target=st.tuples(side, side), data=st.data())
def test_a_window_is_the_part_of_the_whole(
    largest: int, width: int, height: int, target: tuple[int, int], data: st.DataObject
) -> None:
    left, top = (data.draw(st.integers(0, size - 1)) for size in target)
    box = (left, top, data.draw(st.integers(left + 1, target[0])), data.draw(st.integers(top + 1, target[1])))
    image = noise(width, height, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample, "LARGEST", largest)
        found = resize_crop(image, target, box)
    assert found.tobytes() == naive(image, target, box).tobytes()


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (2, 611)])
def test_extreme_shapes_are_the_crop_of_the_whole(size: tuple[int, int]) -> None:
    """Large enough to be computed in a window by default, small enough for PIL."""
    image = noise(*size, 2)
    short = min(size)
    whole = (224 * size[0] // short, 224 * size[1] // short)
    assert max(whole) > resample.LARGEST
    left, top = ((value - 224) // 2 for value in whole)
    box = (left, top, left + 224, top + 224)
    assert resize_crop(image, whole, box).tobytes() == naive(image, whole, box).tobytes()


def test_columns_come_first_whatever_pil_does() -> None:
    image = noise(400, 1000, 3)
    found = np.asarray(resize_crop(image, (224, 560), (0, 0, 224, 560))).astype(int)
    columns = image.resize((224, 1000), BICUBIC)
    np.testing.assert_array_equal(found, np.asarray(columns.resize((224, 560), BICUBIC)))
    rows_first = np.asarray(image.resize((400, 560), BICUBIC).resize((224, 560), BICUBIC)).astype(int)
    assert np.abs(found - rows_first).max() > 1, "the order does not matter any more: simplify resample.py"


@pytest.mark.parametrize("size", [(1, 4096), (4096, 1)])
def test_no_more_than_the_window_is_computed(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """In full it would be 224 x 917504."""
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def watched(image: Image.Image, target: tuple[int, int], *args: object) -> Image.Image:
        sizes.append(target)
        return resize(image, target, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", watched)
    whole = (224, 917_504) if size[0] == 1 else (917_504, 224)
    left, top = ((value - 224) // 2 for value in whole)
    image = noise(*size, 4)
    found = resize_crop(image, whole, (left, top, left + 224, top + 224))
    assert found.size == (224, 224)
    assert sizes, "the short axis is PIL's"
    assert all(width * height <= 224 * 4096 for width, height in sizes)
    middle = np.asarray(image).reshape(-1, 3)[2046:2050]
    assert (
        np.ptp(np.asarray(found)[::223, ::223].reshape(-1, 3).astype(int), axis=0).max()
        <= np.ptp(middle.astype(int), axis=0).max() * 1.5
    )
