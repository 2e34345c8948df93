"""The figures of the calibration: the shipped comparisons, and base samples of held-out captions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline_lib.shapes.annotators import crowd
from pipeline_lib.shapes.build.measure import Judged, compare_within, report, scorers
from pipeline_lib.shapes.build.pairs import Gallery
from pipeline_lib.shapes.build.preference_data import DRAWN, PEOPLE, base_folder
from pipeline_lib.shapes.build.preferences import pair_captions
from pipeline_lib.shapes.build.sampling import load_base, sample
from pipeline_lib.shapes.grammar import parse, split_captions
from pipeline_lib.shapes.renderer import ideal
from pipeline_lib.shapes.truth import ATTRIBUTES, attributes, true_utility, utility

HELD_OUT_CAPTIONS = 64
HELD_OUT_IMAGES = 6
GUIDANCES = (1.0, 2.0, 3.0, 4.0, 6.0)


def measure_pairs(out: Path, gallery: Gallery) -> dict[str, Any]:
    """All figures on the shipped comparisons, without the broken rows; and utilities by source of the image."""
    people = crowd(PEOPLE, seed=33)
    row_of = {uid: row for row, uid in enumerate(gallery.uids)}
    table = [
        row
        for path in sorted((out / "pairs").glob("*.parquet"))
        for row in pq.read_table(
            path, columns=["image_0_uid", "image_1_uid", "label_0", "label_1", "user_id", "has_label"]
        ).to_pylist()
        if row["image_1_uid"] and row["label_0"] + row["label_1"] == 1.0 and row["has_label"]
    ]
    judged = Judged(
        np.array([row_of[row["image_0_uid"]] for row in table]),
        np.array([row_of[row["image_1_uid"]] for row in table]),
        np.array([row["label_0"] for row in table], dtype=np.float32),
        np.array([row["user_id"] - 1 for row in table]),
    )
    scores = {name: score(gallery.images, gallery.captions) for name, score in scorers(out).items()}
    models = np.array(gallery.models)
    values = utility(gallery.parts)
    drawn = models == DRAWN
    both_sampled = ~drawn[judged.left] & ~drawn[judged.right]
    sampled = Judged(*(column[both_sampled] for column in vars(judged).values()))
    return {
        "all": report(scores, gallery.parts, judged, people),
        "base_samples_only": report(scores, gallery.parts, sampled, people),
        "utility": {
            name: {"mean": float(values[models == name].mean()), "sd": float(values[models == name].std())}
            for name in sorted(set(gallery.models))
        },
        "ideal_utility": float(
            true_utility(ideal([parse(caption) for caption in pair_captions()]), pair_captions()).mean()
        ),
    }


def measure_held_out(out: Path, cache: Path) -> dict[str, Any]:
    """The same on base samples of validation captions, which nothing was trained on."""
    captions = [c for c in split_captions("validation")[:HELD_OUT_CAPTIONS] for _ in range(HELD_OUT_IMAGES)]
    if not cache.exists():
        np.savez_compressed(cache, images=sample(load_base(base_folder(out)), captions, guidance=3.0, seed=9_000_000))
    with np.load(cache) as data:
        images = data["images"]
    parts = attributes(images, captions)
    people = crowd(PEOPLE, seed=33)
    groups = np.repeat(np.arange(HELD_OUT_CAPTIONS), HELD_OUT_IMAGES)
    judged = compare_within(parts, groups, people, per_group=10, seed=41)
    scores = {name: score(images, captions) for name, score in scorers(out).items()}
    return report(scores, parts, judged, people)


def measure_guidance(out: Path) -> list[dict[str, Any]]:
    """True utility of base samples of 64 validation captions by guidance scale, and the time they took."""
    pipeline = load_base(base_folder(out))
    captions = split_captions("validation")[:HELD_OUT_CAPTIONS]
    rows: list[dict[str, Any]] = []
    for guidance in GUIDANCES:
        started = time.process_time()
        parts = attributes(sample(pipeline, captions, guidance, seed=8_000_000), captions)
        rows.append(
            {
                "guidance": guidance,
                "utility": float(utility(parts).mean()),
                "attributes": dict(zip(ATTRIBUTES, parts.mean(axis=0).round(3).tolist(), strict=True)),
                "processor_seconds": round(time.process_time() - started, 1),
            }
        )
    return rows
