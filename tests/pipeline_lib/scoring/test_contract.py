"""What every scorer promises. A new scorer joins by its name in NAMES and its tiny checkpoint in conftest.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline_lib.scoring.base import Scorer
from pipeline_lib.scoring.engine import distinct_towers, load_scorers, prepare, score_images
from tests.pipeline_lib.scoring.conftest import NAMES

every_scorer = pytest.mark.parametrize("name", NAMES)


@every_scorer
def test_scores_are_finite_float32_in_order(
    name: str, scorers: dict[str, Scorer], pictures: list[Image.Image], prompts: list[str]
) -> None:
    values = score_images([scorers[name]], pictures, prompts)[name]
    assert values.dtype == np.float32
    assert values.shape == (len(pictures),)
    assert np.isfinite(values).all()
    assert np.ptp(values) > 1e-3, "random weights must tell these images apart"
    back = score_images([scorers[name]], pictures[::-1], prompts[::-1])[name]
    np.testing.assert_allclose(back[::-1], values, atol=1e-5)


@every_scorer
def test_score_does_not_depend_on_the_batch(
    name: str, scorers: dict[str, Scorer], pictures: list[Image.Image], prompts: list[str]
) -> None:
    together = score_images([scorers[name]], pictures * 8, prompts * 8)[name].reshape(8, -1)
    alone = [score_images([scorers[name]], [i], [p])[name][0] for i, p in zip(pictures, prompts, strict=True)]
    np.testing.assert_allclose(together, np.tile(alone, (8, 1)), rtol=1e-5, atol=1e-5)


@every_scorer
def test_score_does_not_depend_on_the_other_scorers(
    name: str, scorers: dict[str, Scorer], pictures: list[Image.Image], prompts: list[str]
) -> None:
    together = score_images(list(scorers.values()), pictures, prompts)[name]
    np.testing.assert_array_equal(together, score_images([scorers[name]], pictures, prompts)[name])


@every_scorer
def test_prompt_matters_exactly_where_it_should(
    name: str, scorers: dict[str, Scorer], pictures: list[Image.Image]
) -> None:
    scorer = scorers[name]
    one = score_images([scorer], pictures, ["a red circle"] * len(pictures))[name]
    other = score_images([scorer], pictures, ["blue squares"] * len(pictures))[name]
    if scorer.needs_prompt:
        assert np.abs(one - other).min() > 0
    else:
        np.testing.assert_array_equal(one, other)


@every_scorer
@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK", "1"])
def test_any_mode_scores_as_its_rgb_version(name: str, mode: str, scorers: dict[str, Scorer]) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).convert(mode)
    values = score_images([scorers[name]], [image, image.convert("RGB")], ["a", "a"])[name]
    assert np.isfinite(values).all()
    assert values[0] == pytest.approx(values[1], abs=1e-5)


@every_scorer
def test_no_images_no_scores(name: str, scorers: dict[str, Scorer]) -> None:
    assert score_images([scorers[name]], [], [])[name].shape == (0,)


def test_other_versions_load_and_differ(
    mirror: Path, scorers: dict[str, Scorer], pictures: list[Image.Image], prompts: list[str]
) -> None:
    variants = load_scorers(["hpsv2.0", "clip-h14"], str(mirror), "cpu")
    values = score_images([*variants, scorers["hpsv2"], scorers["clip"]], pictures, prompts)
    assert np.abs(values["hpsv2.0"] - values["hpsv2"]).max() > 1e-3
    assert np.abs(values["clip-h14"] - values["clip"]).max() > 1e-3


def test_clip_and_aesthetic_share_one_tower(scorers: dict[str, Scorer]) -> None:
    assert scorers["clip"].tower is scorers["aesthetic"].tower
    assert scorers["clip"].tower is not scorers["pickscore"].tower


def test_scorers_share_the_pixels_where_their_recipes_agree(scorers: dict[str, Scorer]) -> None:
    towers = distinct_towers(list(scorers.values()))
    assert len(towers) == 4
    square = prepare(Image.new("RGB", (32, 32)), towers)
    assert len({id(pixels) for pixels in square}) == 1
    tall = prepare(Image.new("RGB", (32, 35)), towers)
    assert len({id(pixels) for pixels in tall}) == 3, "PickScore's crop and HPSv2's letterbox differ from CLIP's"


def test_names_can_be_listed_without_torch() -> None:
    code = "import sys; from pipeline_lib.scoring import SCORERS; print(SCORERS.names(), 'torch' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "False" in done.stdout
    assert all(name in done.stdout for name in NAMES)
