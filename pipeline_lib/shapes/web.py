"""The uncurated pictures everything here is pretrained on: mixed quality, captions that are not always right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline_lib.shapes.grammar import BACKGROUNDS, COLOURS, SHAPES, SIZES, parse
from pipeline_lib.shapes.renderer import Faults, Floats, Layout, layout, render


@dataclass(frozen=True)
class Mixture:
    """How often each fault occurs, as probabilities per image.

    The strengths are drawn uniformly: saturation 0.3..1, blur 0.5..1.6 px, noise 0.02..0.14, blocks of 2 or 4 px.
    """

    wrong_colour: float = 0.12
    wrong_shape: float = 0.12
    wrong_background: float = 0.12
    wrong_size: float = 0.12
    displaced: float = 0.15
    muted: float = 0.60
    blurred: float = 0.50
    noisy: float = 0.40
    mosaic: float = 0.12


WEB = Mixture()


def draw(captions: Sequence[str], rng: np.random.Generator, mixture: Mixture = WEB) -> Floats:
    """One picture (n, 32, 32, 3) per caption, with its share of faults and small natural variation in geometry."""
    count = len(captions)
    wanted = layout([parse(caption) for caption in captions])

    def hit(probability: float) -> np.ndarray:
        return rng.random(count) < probability

    def strength(probability: float, low: float, high: float, otherwise: float) -> Floats:
        return np.where(hit(probability), rng.uniform(low, high, count), otherwise).astype(np.float32)

    colours = np.array(list(COLOURS.values()), dtype=np.float32)
    backgrounds = np.array(list(BACKGROUNDS.values()), dtype=np.float32)
    radii = np.array(list(SIZES.values()), dtype=np.float32)
    displacement = np.where(
        hit(mixture.displaced)[:, None], rng.uniform(-6, 6, (count, 2)), rng.normal(0, 0.5, (count, 2))
    )
    drawn = Layout(
        shape=np.where(hit(mixture.wrong_shape), rng.integers(0, len(SHAPES), count), wanted.shape),
        radius=np.where(hit(mixture.wrong_size), rng.choice(radii, count), wanted.radius)
        * rng.uniform(0.93, 1.07, count).astype(np.float32),
        centre=np.clip(wanted.centre + displacement, 7, 25).astype(np.float32),
        colour=np.where(hit(mixture.wrong_colour)[:, None], rng.choice(colours, count), wanted.colour),
        background=np.where(hit(mixture.wrong_background)[:, None], rng.choice(backgrounds, count), wanted.background),
    )
    faults = Faults(
        saturation=strength(mixture.muted, 0.3, 1.0, 1.0),
        blur=strength(mixture.blurred, 0.5, 1.6, 0.0),
        noise=strength(mixture.noisy, 0.02, 0.14, 0.0),
        block=np.where(hit(mixture.mosaic), rng.choice([2, 4], count), 1).astype(np.int64),
    )
    return render(drawn, faults, seed=int(rng.integers(2**31)))
