"""The contract of the scorers that come with the project, and what they promise together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline_lib.core.weights.keys import HARMLESS
from pipeline_lib.scoring import aesthetic, clip, hpsv2, imagereward, pickscore
from pipeline_lib.scoring.base import Scorer
from pipeline_lib.scoring.engine import distinct_towers, load_scorers, prepare, score_images
from tests.pipeline_lib.scoring.conftest import NAMES
from tests.pipeline_lib.scoring.contract import ScorerContract

L14 = f"{clip.L14[0]}/{clip.LAYOUTS[0]}"


class TestClip(ScorerContract):
    name = "clip"
    weights = (L14,)
    harmless = HARMLESS["CLIPModel"]


@pytest.mark.slow  # the recipe of TestClip, with other widths
class TestClipH14(ScorerContract):
    name = "clip-h14"
    weights = (f"{clip.H14[0]}/{clip.LAYOUTS[0]}",)
    harmless = HARMLESS["CLIPModel"]


class TestPickScore(ScorerContract):
    name = "pickscore"
    weights = (f"{pickscore.REPO}/{clip.LAYOUTS[0]}",)
    harmless = HARMLESS["CLIPModel"]


class TestHpsV21(ScorerContract):
    name = "hpsv2"
    weights = (f"{hpsv2.REPO}/{hpsv2.FILE_V21}",)
    optional = (hpsv2.CONFIG, "bpe_simple_vocab.txt.gz")


@pytest.mark.slow  # the recipe of TestHpsV21, from another file
class TestHpsV20Antialias(ScorerContract):
    name = "hpsv2.0-antialias"
    weights = (f"{hpsv2.REPO}/{hpsv2.FILE_V20}",)
    optional = (hpsv2.CONFIG, "bpe_simple_vocab.txt.gz")


class TestAesthetic(ScorerContract):
    name = "aesthetic"
    weights = (f"{aesthetic.REPO}/{aesthetic.FILE}", L14)


class TestImageReward(ScorerContract):
    name = "imagereward"
    weights = (f"{imagereward.REPO}/{imagereward.WEIGHTS}",)
    harmless = HARMLESS["ImageReward"]


def test_other_versions_load_and_differ(
    mirror: Path, scorers: dict[str, Scorer], pictures: list[Image.Image], prompts: list[str]
) -> None:
    variants = load_scorers(["hpsv2.0", "hpsv2-antialias", "clip-h14"], str(mirror), "cpu")
    values = score_images([*variants, scorers["hpsv2"], scorers["clip"]], pictures, prompts)
    assert np.abs(values["hpsv2.0"] - values["hpsv2"]).max() > 1e-3
    assert np.abs(values["hpsv2-antialias"] - values["hpsv2"]).max() > 1e-4
    assert np.abs(values["clip-h14"] - values["clip"]).max() > 1e-3
    fits = [image.size for image in pictures].index((32, 32))
    assert values["hpsv2-antialias"][fits] == values["hpsv2"][fits], "it is not resized"


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
