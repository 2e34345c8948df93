"""Preprocessing against the originals' own building blocks: torchvision transforms, transformers' PIL processor."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline_lib.images import decode, to_rgb
from pipeline_lib.scoring.preprocess import CLIP_MEAN, CLIP_STD, CentreCrop, Letterbox, Preprocess
from tests.pipeline_lib.scoring.conftest import picture

SIZES = [(64, 48), (32, 32), (33, 90), (200, 37), (17, 17), (51, 50), (35, 32), (32, 39), (1, 5), (1024, 768)]


@pytest.mark.parametrize("size", SIZES)
def test_centre_crop_is_openai_clips_transform(size: tuple[int, int]) -> None:
    from torchvision import transforms as T

    original = T.Compose(
        [
            T.Resize(32, interpolation=T.InterpolationMode.BICUBIC),
            T.CenterCrop(32),
            T.ToTensor(),
            T.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )
    image = picture(*size, 1)
    torch.testing.assert_close(CentreCrop(32, "even")(image), original(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_centre_crop_down_is_transformers_clip_processor(size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    image = picture(*size, 2)
    expected = torch.as_tensor(np.asarray(processor(image, return_tensors="np")["pixel_values"][0]))
    torch.testing.assert_close(CentreCrop(32, "down")(image), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [size for size in SIZES if size != (1, 5)])
def test_letterbox_is_hpsv2s_transform(size: tuple[int, int], antialias: bool) -> None:
    import torchvision.transforms.functional as F
    from torchvision.transforms import InterpolationMode

    image = picture(*size, 3)
    pixels = F.to_tensor(image)
    scale = 32 / float(max(pixels.shape[1:]))
    if scale != 1.0:
        new = [round(side * scale) for side in pixels.shape[1:]]
        pixels = F.resize(pixels, new, InterpolationMode.BICUBIC, antialias=antialias)
        rows, columns = 32 - new[0], 32 - new[1]
        pixels = F.pad(pixels, [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2], fill=0)
    expected = F.normalize(pixels, CLIP_MEAN, CLIP_STD)
    torch.testing.assert_close(Letterbox(32, antialias)(image), expected, rtol=0, atol=1e-6)


def test_letterbox_antialias_matters_and_pads_an_image_whose_long_side_fits() -> None:
    image = picture(128, 96, 4)
    assert (Letterbox(32, True)(image) - Letterbox(32, False)(image)).abs().max() > 0.05
    flat = Letterbox(32, False)(picture(32, 20, 4))
    black = -torch.tensor(CLIP_MEAN) / torch.tensor(CLIP_STD)
    assert flat.shape == (3, 32, 32)
    torch.testing.assert_close(flat[:, :6], black.view(3, 1, 1).expand(3, 6, 32))


def test_equal_keys_mean_equal_pixels() -> None:
    recipes: list[Preprocess] = [
        CentreCrop(32, "even"),
        CentreCrop(32, "down"),
        Letterbox(32, False),
        Letterbox(32, True),
    ]
    shared = 0
    for size in [*SIZES, (32, 35)]:
        image = picture(*size, 5)
        for one in recipes:
            for other in recipes:
                if one is not other and one.key(*size) == other.key(*size):
                    assert torch.equal(one(image), other(image))
                    shared += 1
    assert shared > 0
    odd = (32, 35)  # three pixels too many: torchvision cuts two above, transformers one
    assert CentreCrop(32, "even").key(*odd) != CentreCrop(32, "down").key(*odd)


@settings(max_examples=40, deadline=None)
@given(
    width=st.sampled_from([1, 2, 31, 32, 33, 500, 4096]),
    height=st.sampled_from([1, 3, 30, 32, 65, 224]),
    mode=st.sampled_from(["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr"]),
)
def test_every_size_and_mode_gives_finite_pixels(width: int, height: int, mode: str) -> None:
    image = to_rgb(Image.new("RGB", (width, height), (10, 200, 30)).convert(mode))
    for recipe in (CentreCrop(32, "even"), CentreCrop(32, "down"), Letterbox(32, False)):
        pixels = recipe(image)
        assert pixels.shape == (3, 32, 32)
        assert pixels.dtype == torch.float32
        assert torch.isfinite(pixels).all()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (2, 2), (200, 100, 50, 0)), (200, 100, 50)),
        (Image.new("L", (2, 2), 77), (77, 77, 77)),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("P", (2, 2), 0), (0, 0, 0)),
        (Image.fromarray(np.full((2, 2), 0x80FF, np.uint16)), (128, 128, 128)),
        (Image.new("I", (2, 2), 0xFFFF), (255, 255, 255)),
    ],
)
def test_modes_become_rgb(image: Image.Image, expected: tuple[int, int, int]) -> None:
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    assert rgb.getpixel((1, 1)) == expected


def test_decode_applies_exif_orientation() -> None:
    image = Image.new("RGB", (8, 4), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    buffer = BytesIO()
    image.save(buffer, "PNG", exif=exif)
    upright = decode(buffer.getvalue())
    assert upright.size == (4, 8)
    assert upright.getpixel((0, 0)) == (0, 0, 255)
    assert upright.getpixel((0, 7)) == (255, 0, 0)
