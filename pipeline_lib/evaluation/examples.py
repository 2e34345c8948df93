"""The pairs of images a report shows: where a model loses and gains most against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline_lib.evaluation.winrates import TRUE
from pipeline_lib.store import Dataset

Key = tuple[str, int]
"""Prompt id and seed."""


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


@dataclass(frozen=True)
class Scored:
    """One model's images, and its scores (n,) by scorer for the rows that count."""

    model: str
    images: Dataset
    scores: Mapping[str, np.ndarray]


def choose(
    challenger: Scored, reference: Scored, keys: Sequence[Key], count: int
) -> tuple[list[Example], list[Example]]:
    """At most `count` worst regressions, worst first, and as many best wins, best first; `keys` names the rows."""
    gain = gains(challenger.scores, reference.scores)
    order = np.argsort(gain, kind="stable")
    ends = [[i for i in order[:count] if gain[i] < 0], [i for i in order[::-1][:count] if gain[i] > 0]]
    wanted = {keys[i] for end in ends for i in end}
    found = {scored.model: _find(scored.images, wanted) for scored in (reference, challenger)}

    def side(scored: Scored, row: int) -> Side:
        values = {name: float(column[row]) for name, column in scored.scores.items()}
        return Side(scored.model, found[scored.model][keys[row]][1], values)

    worst, best = (
        [Example(found[reference.model][keys[i]][0], keys[i][1], side(reference, i), side(challenger, i)) for i in end]
        for end in ends
    )
    return worst, best


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
