"""Distances within prompts by hand, and embeddings that cost no further forward pass."""

import numpy as np
import pytest
from PIL import Image

from pipeline_lib.core.hub import SHAPES_MIRROR
from pipeline_lib.evaluation.diversity import DIVERSITY, distances, embedder
from pipeline_lib.scoring import load_scorers, score_images
from pipeline_lib.scoring.scorers import embedding_scorer


def test_mean_distance_from_the_others_of_the_prompt() -> None:
    right, up = [2.0, 0.0], [0.0, 5.0]
    found = distances(np.array([right, up, right, right, right, [-1.0, 0.0]]), ["a", "a", "b", "b", "b", "a"])
    assert found == pytest.approx([1.5, 1.0, 0.0, 0.0, 0.0, 1.5], abs=1e-7)
    assert found.dtype == np.float32


def test_distance_is_one_minus_the_mean_cosine_whatever_the_lengths() -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 8))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    wanted = [1 - np.mean([unit[i] @ unit[j] for j in range(3) if j != i]) for i in range(3)]
    assert distances(vectors * [[1], [7], [0.1]], ["a"] * 3) == pytest.approx(wanted, abs=1e-6)


def test_a_tower_with_one_embedding_per_image_is_chosen() -> None:
    assert embedding_scorer(["pickscore", "clip"]) == "clip"
    assert embedding_scorer(["imagereward", "hpsv2"]) == "hpsv2"
    assert embedding_scorer(["pickscore", "clip-h14", "aesthetic"]) == "aesthetic"
    assert embedding_scorer(["hpsv2", "pickscore", "clip-h14"]) == "clip-h14"
    assert embedding_scorer(["imagereward", "hpsv2-antialias"]) is None


@pytest.mark.parametrize("name", ["clip", "aesthetic", "pickscore", "hpsv2"])
def test_embeddings_come_from_the_scorers_own_pass(name: str) -> None:
    scorers = load_scorers([name, "imagereward"], SHAPES_MIRROR, "cpu")
    images = [Image.new("RGB", (32, 32), colour) for colour in ("red", "red", "blue")]
    prompts = ["a large red circle on a black background"] * 3
    plain = score_images(scorers, images, prompts)
    passes: list[int] = []
    tower = scorers[0].tower
    original = tower.encode
    object.__setattr__(tower, "encode", lambda pixels: (passes.append(len(pixels)), original(pixels))[1])
    found = score_images([*scorers, embedder(scorers[0])], images, prompts)
    assert sum(passes) == 3
    embeddings = found.pop(DIVERSITY)
    assert embeddings.ndim == 2 and len(embeddings) == 3
    for scorer, values in plain.items():
        np.testing.assert_array_equal(found[scorer], values)
    same = distances(embeddings[:2], ["a", "a"])
    other = distances(embeddings[1:], ["a", "a"])
    assert same == pytest.approx([0, 0], abs=1e-6) and other[0] > 1e-4
