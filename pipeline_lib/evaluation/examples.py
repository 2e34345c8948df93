"""The pairs of images a report shows: a random sample, and where a model loses and gains most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline_lib.core.store import Dataset
from pipeline_lib.evaluation.winrates import TRUE

Key = tuple[str, int]
"""Prompt id and seed."""

SAMPLE, WORST, BEST = "sample", "worst", "best"


@dataclass(frozen=True)
class Side:
    """One model's image of an example: its PNG bytes and scores by scorer."""

    model: str
    image: bytes
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Example:
    """One (prompt, seed) with both models' images."""

    prompt: str
    seed: int
    reference: Side
    challenger: Side
    gain: float = 0.0
    """What `gains` says of it."""
    views: tuple[str, ...] = (SAMPLE,)
    """Why it is shown: SAMPLE, WORST, BEST, or two of them."""
    category: str = ""
    """Its prompt's, where the prompt set has categories."""


@dataclass(frozen=True)
class Scored:
    """One model's images, and its scores (n,) by scorer for the rows that count."""

    model: str
    images: Dataset
    scores: Mapping[str, np.ndarray]


def choose(
    challenger: Scored,
    reference: Scored,
    keys: Sequence[Key],
    count: int,
    categories: Mapping[str, str] | None = None,
) -> list[Example]:
    """`2 * count` random rows, the `count` worst regressions, and as many best wins, each row once; random ones first.

    Args:
        keys: names the rows. A prompt id is a hash, so the first ids in their order are a random sample; it is the
            same for every challenger, and has a second seed of a prompt only when all prompts are in it.
        categories: prompt id -> category.
    """
    gain = gains(challenger.scores, reference.scores)
    order = np.argsort(gain, kind="stable").tolist()
    views = {
        SAMPLE: sorted(range(len(keys)), key=lambda i: (keys[i][1], keys[i][0]))[: 2 * count],
        WORST: [i for i in order[:count] if gain[i] < 0],
        BEST: [i for i in order[::-1][:count] if gain[i] > 0],
    }
    rows = list(dict.fromkeys(i for chosen in views.values() for i in chosen))
    wanted = {keys[i] for i in rows}
    found = {scored.model: _find(scored.images, wanted) for scored in (reference, challenger)}

    def side(scored: Scored, row: int) -> Side:
        values = {name: float(column[row]) for name, column in scored.scores.items()}
        return Side(scored.model, found[scored.model][keys[row]][1], values)

    return [
        Example(
            prompt=found[reference.model][keys[i]][0],
            seed=keys[i][1],
            reference=side(reference, i),
            challenger=side(challenger, i),
            gain=float(gain[i]),
            views=tuple(view for view, chosen in views.items() if i in chosen),
            category=(categories or {}).get(keys[i][0], ""),
        )
        for i in rows
    ]


def gains(challenger: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> np.ndarray:
    """What examples are ranked by (n,): gain in true utility where known, else the scorers' mean standardised gain."""
    names = [TRUE] if TRUE in challenger else list(challenger)
    total = np.zeros(len(challenger[names[0]]))
    for name in names:
        difference = np.asarray(challenger[name], np.float64) - np.asarray(reference[name], np.float64)
        total += difference / (float(np.std(difference)) or 1.0)
    return total / len(names)


def _find(images: Dataset, wanted: set[Key]) -> dict[Key, tuple[str, bytes]]:
    """Prompt and PNG bytes of some images, with one shard in memory at a time."""
    found = {}
    for shard in images.tables():
        table = images.read(shard)
        for i, key in enumerate(zip(table["prompt_id"].to_pylist(), table["seed"].to_pylist(), strict=True)):
            if key in wanted:
                found[key] = (table["prompt"][i].as_py(), table["image"][i].as_py())
    return found
