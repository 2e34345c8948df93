"""Preference pairs in Pick-a-Pic v2's schema.

A person writes a prompt, sees two images, picks one; the winner stays and the other is replaced, for a round of
comparisons. So most images stand in two pairs. After a tie either may stay.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline_lib.shapes.annotators import Crowd, judge
from pipeline_lib.shapes.renderer import Floats, encode_jpeg

COMPARISONS_PER_ROUND = 7
ROUNDS_PER_PROMPT = 2
UNLABELLED = 0.004
"""Share of comparisons with has_label = false, as Pick-a-Pic has some."""

SCHEMA = pa.schema(
    [
        ("are_different", pa.bool_()),
        ("best_image_uid", pa.string()),
        ("caption", pa.string()),
        ("created_at", pa.timestamp("us")),
        ("has_label", pa.bool_()),
        ("image_0_uid", pa.string()),
        ("image_0_url", pa.string()),
        ("image_1_uid", pa.string()),
        ("image_1_url", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("label_1", pa.float64()),
        ("model_0", pa.string()),
        ("model_1", pa.string()),
        ("ranking_id", pa.int64()),
        ("user_id", pa.int64()),
        ("num_example_per_prompt", pa.int64()),
        ("__index_level_0__", pa.int64()),
    ]
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Gallery:
    """Images to compare: pixels (n, 32, 32, 3) uint8, attributes (n, 7), caption, uid and model of each."""

    images: NDArray[np.uint8]
    parts: Floats
    captions: tuple[str, ...]
    uids: tuple[str, ...]
    models: tuple[str, ...]


def new_uids(count: int, seed: int) -> tuple[str, ...]:
    """Random-looking uids, the same for the same seed."""
    rng = random.Random(seed)
    return tuple(str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(count))


def rounds(
    gallery: Gallery,
    people: Crowd,
    seed: int,
    per_prompt: int = ROUNDS_PER_PROMPT,
    length: int = COMPARISONS_PER_ROUND,
) -> list[Row]:
    """All rounds of all prompts as rows of SCHEMA (broken rows are added by :func:`with_broken_rows`).

    `per_prompt` rounds of `length` comparisons each; they need per_prompt * (length + 1) images of the prompt.
    """
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = {}
    for index, caption in enumerate(gallery.captions):
        members.setdefault(caption, []).append(index)
    jpegs = [encode_jpeg(image) for image in gallery.images]
    rows: list[Row] = []
    started = dt.datetime(2024, 3, 1)
    ranking = 0
    for caption, own in members.items():
        queue = [int(index) for index in rng.permutation(own)]
        for _ in range(per_prompt):
            person = int(rng.integers(len(people.user_ids)))
            standing, ranking = queue.pop(), ranking + 1
            text = _as_typed(caption, rng)
            for _ in range(length):
                challenger = queue.pop()
                left, right = (standing, challenger) if rng.random() < 0.5 else (challenger, standing)
                verdict = float(judge(gallery.parts[[left]], gallery.parts[[right]], people.weights[[person]], rng)[0])
                row = _row(gallery, jpegs, left, right, verdict)
                row["has_label"] = bool(rng.random() >= UNLABELLED)
                row |= {
                    "caption": text,
                    "created_at": started + dt.timedelta(seconds=37 * len(rows)),
                    "ranking_id": ranking,
                    "user_id": int(people.user_ids[person]),
                }
                rows.append(row)
                winner = left if verdict > 0.5 else right if verdict < 0.5 else standing
                standing = winner
    return _numbered(rows)


def _as_typed(caption: str, rng: np.random.Generator) -> str:
    """Some people leave white space around what they type."""
    return str(rng.choice([caption, f"{caption} ", f" {caption}"], p=[0.9, 0.07, 0.03]))


def _row(gallery: Gallery, jpegs: Sequence[bytes], left: int, right: int, verdict: float) -> Row:
    uids = gallery.uids
    best = "tie" if verdict == 0.5 else uids[left] if verdict > 0.5 else uids[right]
    return {
        "are_different": verdict != 0.5,
        "best_image_uid": best,
        "image_0_uid": uids[left],
        "image_0_url": f"https://shapes.invalid/{uids[left]}.jpg",
        "image_1_uid": uids[right],
        "image_1_url": f"https://shapes.invalid/{uids[right]}.jpg",
        "jpg_0": jpegs[left],
        "jpg_1": jpegs[right],
        "label_0": verdict,
        "label_1": 1.0 - verdict,
        "model_0": gallery.models[left],
        "model_1": gallery.models[right],
    }


def _numbered(rows: list[Row]) -> list[Row]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["caption"]] = counts.get(row["caption"], 0) + 1
    return [
        row | {"num_example_per_prompt": counts[row["caption"]], "__index_level_0__": index}
        for index, row in enumerate(rows)
    ]


def with_broken_rows(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows, with two of each of five kinds of damage: what ingest has to find.

    Truncated JPEG, no JPEG, empty prompt, labels that do not add up to 1, missing uid. They are extra rows (copies of
    good ones, then damaged), at random places.
    """
    rng = np.random.default_rng(seed)
    damage: tuple[Row, ...] = (
        {"jpg_0": b""},
        {"jpg_1": None},
        {"caption": "  "},
        {"label_0": 1.0, "label_1": 1.0},
        {"image_1_uid": None},
    )
    out = [dict(row) for row in rows]
    for change in (*damage, *damage):
        victim = dict(rows[int(rng.integers(len(rows)))])
        if change.get("jpg_0") == b"":
            change = {"jpg_0": victim["jpg_0"][: len(victim["jpg_0"]) // 3]}
        out.insert(int(rng.integers(len(out))), victim | change)
    return [row | {"__index_level_0__": index} for index, row in enumerate(out)]
