"""Preprocessing against the originals' own building blocks, and properties over all sizes and modes.

The originals resize with one call of PIL, whose order of axes changed in Pillow 13 for tall images (see resample.py);
there, the reference is resized one axis at a time.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline_lib.core.images import to_rgb
from pipeline_lib.scoring.preprocess import CLIP_MEAN, CLIP_STD, OVERSHOOT, CentreCrop, Letterbox, Preprocess
from tests.pipeline_lib.scoring.conftest import picture

SIDE = 32
RECIPES: list[Preprocess] = [
    CentreCrop(SIDE, "even"),
    CentreCrop(SIDE, "down"),
    Letterbox(SIDE, False),
    Letterbox(SIDE, True),
]
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "I", "I;16")
SIZES = [(64, 48), (32, 32), (45, 90), (200, 37), (17, 17), (51, 50), (35, 32), (32, 39), (1024, 768), (300, 600)]
EXTREME = [(1, 1), (1, 5), (5, 1), (33, 90), (1, 4096), (4096, 1), (37, 4096), (4096, 2), (32, 4096), (3, 1000)]
BLACK = -np.reshape(CLIP_MEAN, (3, 1, 1)) / np.reshape(CLIP_STD, (3, 1, 1))
TALLEST = 2.0
"""Height by width up to which every Pillow resizes columns first."""

every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
every_size = pytest.mark.parametrize("size", SIZES + EXTREME, ids=str)


@st.composite
def sizes(draw: st.DrawFn, most: int = 300_000) -> tuple[int, int]:
    """Width and height of 1 to 4096 pixels, of up to `most` pixels in all; one in two is as flat as it can be."""
    long = draw(st.sampled_from([1, 2, SIDE - 1, SIDE, SIDE + 1, 4096]) | st.integers(1, 4096))
    short = draw(st.integers(1, min(8, long)) | st.integers(1, max(1, min(long, most // long))))
    return (long, short) if draw(st.booleans()) else (short, long)


def in_mode(size: tuple[int, int], mode: str, seed: int) -> Image.Image:
    """Noise or smooth colours in any PIL mode."""
    rng = np.random.default_rng(seed)
    if mode in ("I", "I;16"):
        values = rng.integers(0, 65536, size[::-1])
        return Image.fromarray(values.astype(np.int32 if mode == "I" else np.uint16))
    if seed % 2:
        return picture(*size, seed).convert(mode)
    return Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)


def torchvision_pixels(image: Image.Image) -> torch.Tensor:
    """OpenAI CLIP's transform, of the blocks it is made of."""
    from torchvision import transforms as T
    from torchvision.transforms import functional as F

    bicubic = T.InterpolationMode.BICUBIC
    if image.height <= TALLEST * image.width:
        image = T.Resize(SIDE, interpolation=bicubic)(image)
    else:
        width, height = T.Resize(SIDE)(Image.new("1", image.size)).size
        image = F.resize(F.resize(image, [image.height, width], bicubic), [height, width], bicubic)
    return T.Compose([T.CenterCrop(SIDE), T.ToTensor(), T.Normalize(CLIP_MEAN, CLIP_STD)])(image)


def hpsv2_pixels(image: Image.Image, antialias: bool) -> torch.Tensor:
    """HPSv2's transform on torchvision's tensor resize."""
    import torchvision.transforms.functional as F
    from torchvision.transforms import InterpolationMode

    pixels = F.to_tensor(image)
    scale = SIDE / max(pixels.shape[1:])
    new = [round(side * scale) for side in pixels.shape[1:]]
    if scale != 1.0:
        pixels = F.resize(pixels, new, InterpolationMode.BICUBIC, antialias=antialias)
    rows, columns = SIDE - new[0], SIDE - new[1]
    pixels = F.pad(pixels, [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2], fill=0)
    return F.normalize(pixels, CLIP_MEAN, CLIP_STD)


def assert_same(found: np.ndarray, expected: torch.Tensor) -> None:
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-6)


@every_size
def test_centre_crop_is_openai_clips_transform(size: tuple[int, int]) -> None:
    image = picture(*size, 1)
    assert_same(CentreCrop(SIDE, "even").pixels(image), torchvision_pixels(image))


@every_size
def test_centre_crop_down_is_transformers_clip_processor(size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    if size[1] > TALLEST * size[0]:
        size = size[::-1]
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    image = picture(*size, 2)
    expected = torch.as_tensor(np.asarray(processor(image, return_tensors="np")["pixel_values"][0]))
    assert_same(CentreCrop(SIDE, "down").pixels(image), expected)


@pytest.mark.parametrize("antialias", [False, True])
@every_size
def test_letterbox_is_hpsv2s_transform(size: tuple[int, int], antialias: bool) -> None:
    if round(min(size) * SIDE / max(size)) == 0:
        size = (max(size), max(size) // 40)  # the original fails on flatter ones; see the next test
    image = picture(*(max(1, side) for side in size), 3)
    assert_same(Letterbox(SIDE, antialias).pixels(image), hpsv2_pixels(image, antialias))


@pytest.mark.parametrize("antialias", [False, True])
def test_letterbox_keeps_a_row_of_an_image_too_flat_for_the_original(antialias: bool) -> None:
    with pytest.raises(Exception, match="size"):
        hpsv2_pixels(picture(4096, 3, 4), antialias)
    flat = Letterbox(SIDE, antialias).pixels(picture(4096, 3, 4))
    is_black = np.isclose(flat, BLACK).all(axis=(0, 2))
    assert is_black.tolist() == [row != (SIDE - 1) // 2 for row in range(SIDE)]


def test_letterbox_antialias_matters_and_pads_an_image_whose_long_side_fits() -> None:
    image = picture(128, 96, 4)
    assert np.abs(Letterbox(SIDE, True).pixels(image) - Letterbox(SIDE, False).pixels(image)).max() > 0.05
    flat = Letterbox(SIDE, False).pixels(picture(32, 20, 4))
    assert flat.shape == (3, SIDE, SIDE)
    is_black = np.isclose(flat, BLACK).all(axis=(0, 2))
    assert is_black.tolist() == [True] * 6 + [False] * 20 + [True] * 6


@every_recipe
def test_an_image_of_the_right_size_is_only_scaled_and_normalised(recipe: Preprocess) -> None:
    image = picture(SIDE, SIDE, 5)
    back = recipe.pixels(image) * np.reshape(CLIP_STD, (3, 1, 1)) + np.reshape(CLIP_MEAN, (3, 1, 1))
    np.testing.assert_array_equal(np.rint(back * 255).transpose(1, 2, 0), np.asarray(image))
    assert recipe.key(SIDE, SIDE) == RECIPES[0].key(SIDE, SIDE), "towers share it"


def check_properties(size: tuple[int, int], mode: str, seed: int) -> None:
    """What holds for every image and recipe."""
    rgb = to_rgb(in_mode(size, mode, seed))
    assert rgb.mode == "RGB"
    before = rgb.tobytes()
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (CLIP_MEAN, CLIP_STD))
    made: dict[tuple[object, ...], np.ndarray] = {}
    for recipe in RECIPES:
        pixels = recipe.pixels(rgb)
        assert pixels.shape == (3, SIDE, SIDE)
        assert pixels.dtype == np.float32
        assert np.isfinite(pixels).all()
        spill = OVERSHOOT if isinstance(recipe, Letterbox) and max(size) != SIDE else 0.0
        values = pixels * std + mean
        assert values.min() >= -spill - 1e-6
        assert values.max() <= 1 + spill + 1e-6
        same = made.setdefault(recipe.key(*size), pixels)
        np.testing.assert_array_equal(pixels, same, err_msg="equal keys, other pixels")
        np.testing.assert_array_equal(pixels, recipe.pixels(Image.frombytes("RGB", size, before)), err_msg="repeated")
    assert rgb.tobytes() == before, "the image was changed"
    assert_same(RECIPES[0].pixels(rgb), torchvision_pixels(rgb))
    if round(min(size) * SIDE / max(size)) > 0:
        for antialias in (False, True):
            assert_same(Letterbox(SIDE, antialias).pixels(rgb), hpsv2_pixels(rgb, antialias))


@settings(max_examples=150, deadline=None)
@given(size=sizes(), mode=st.sampled_from(MODES), seed=st.integers(0, 99))
def test_every_size_and_mode(size: tuple[int, int], mode: str, seed: int) -> None:
    check_properties(size, mode, seed)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(size=sizes(most=4096 * 4096), mode=st.sampled_from(MODES), seed=st.integers(0, 99))
def test_every_size_and_mode_up_to_16_megapixels(size: tuple[int, int], mode: str, seed: int) -> None:
    check_properties(size, mode, seed)


@settings(max_examples=300, deadline=None)
@given(width=st.integers(1, 4096), height=st.integers(1, 4096), size=st.sampled_from([32, 224, 336]))
def test_the_crop_lies_in_the_middle_of_the_resized_image(width: int, height: int, size: int) -> None:
    for rounding in ("even", "down"):
        resized, offsets = CentreCrop(size, rounding).geometry(width, height)
        assert min(resized) == size
        assert abs(resized[0] / resized[1] / (width / height) - 1) <= 1 / size
        for side, offset in zip(resized, offsets, strict=True):
            assert 0 <= offset <= side - size
            assert abs(offset - (side - size) / 2) <= 0.5


def test_recipes_with_other_pixels_have_other_keys() -> None:
    odd = (32, 35)  # three pixels too many: torchvision cuts two above, transformers one
    assert len({recipe.key(*odd) for recipe in RECIPES}) == 4
    image = picture(*odd, 5)
    assert len({recipe.pixels(image).tobytes() for recipe in RECIPES[:3]}) == 3
    even = (32, 36)
    assert RECIPES[0].key(*even) == RECIPES[1].key(*even)


def test_names_hold_recipe_and_version() -> None:
    names = [recipe.name for recipe in RECIPES]
    assert [name.split("/")[0] for name in names] == [
        "centre-crop-even",
        "centre-crop-down",
        "letterbox-plain",
        "letterbox-antialias",
    ]
    assert len({name.split("/")[1] for name in names}) == 1


def test_cropping_needs_no_torch() -> None:
    """Worker processes that only prepare images start in a fraction of torch's import."""
    code = (
        "import sys; from PIL import Image; from pipeline_lib.scoring.preprocess import CentreCrop, Letterbox\n"
        "CentreCrop(32, 'even').pixels(Image.new('RGB', (64, 48)))\n"
        "Letterbox(32, False).pixels(Image.new('RGB', (32, 32)))\n"
        "print('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
