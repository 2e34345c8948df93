"""The shipped comparisons: which images are compared, what is written, and the truth kept beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.shapes import hub_files as files
from pipeline_lib.shapes.annotators import Crowd, crowd
from pipeline_lib.shapes.grammar import SPLIT_SIZES, split_captions
from pipeline_lib.shapes.hub_files import hub_folder
from pipeline_lib.shapes.pairs import (
    COMPARISONS_PER_ROUND,
    ROUNDS_PER_PROMPT,
    SCHEMA,
    Gallery,
    new_uids,
    rounds,
    with_broken_rows,
)
from pipeline_lib.shapes.preferences import pair_captions
from pipeline_lib.shapes.renderer import to_uint8
from pipeline_lib.shapes.sampling import load_base, sample
from pipeline_lib.shapes.truth import ATTRIBUTES, attributes, utility
from pipeline_lib.shapes.web import draw

PEOPLE = 120
SHARDS = 4
GUIDANCE = {"shapes-base-cfg2": 2.0, "shapes-base-cfg4": 4.0}
"""Model names in the pairs -> guidance scale of the base model's samples."""

DRAWN = "shapes-web"
"""Model name of pictures that were drawn, with faults."""

IMAGES_PER_PROMPT = ROUNDS_PER_PROMPT * (COMPARISONS_PER_ROUND + 1)
DRAWN_PER_PROMPT = 3


def make_gallery(base: Path, captions: tuple[str, ...], cache: Path | None = None) -> Gallery:
    """16 images per caption: 3 drawn ones, the others samples of the base model at two guidance scales.

    `cache` (.npz) keeps the samples between runs.
    """
    if cache is not None and cache.exists():
        with np.load(cache) as data:
            images, models = data["images"], tuple(str(name) for name in data["models"])
    else:
        images, models = _pictures(base, captions)
        if cache is not None:
            np.savez_compressed(cache, images=images, models=np.array(models))
    names = tuple(caption for caption in captions for _ in range(IMAGES_PER_PROMPT))
    # Attributes are measured on the pixels people saw: after JPEG they hardly differ, so the originals serve.
    return Gallery(images, attributes(images, names), names, new_uids(len(names), seed=31), models)


def _pictures(base: Path, captions: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    per_scale = (IMAGES_PER_PROMPT - DRAWN_PER_PROMPT + 1) // 2
    pipeline = load_base(base)
    rng = np.random.default_rng(32)
    columns: list[np.ndarray] = []
    models: list[str] = []
    for index, (name, guidance) in enumerate(GUIDANCE.items()):
        count = per_scale if index == 0 else IMAGES_PER_PROMPT - DRAWN_PER_PROMPT - per_scale
        repeated = [caption for caption in captions for _ in range(count)]
        made = sample(pipeline, repeated, guidance, seed=1_000_000 * (index + 1))
        columns.append(made.reshape(len(captions), count, *made.shape[1:]))
        models += [name] * count
    repeated = [caption for caption in captions for _ in range(DRAWN_PER_PROMPT)]
    drawn = to_uint8(draw(repeated, rng))
    columns.append(drawn.reshape(len(captions), DRAWN_PER_PROMPT, *drawn.shape[1:]))
    models += [DRAWN] * DRAWN_PER_PROMPT
    stacked = np.concatenate(columns, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:]), tuple(models * len(captions))


def write_pairs(out: Path, gallery: Gallery) -> dict[str, Any]:
    """Write pairs/, truth.parquet, users.parquet and prompts/; the counts as metrics."""
    people = crowd(PEOPLE, seed=33)
    good = rounds(gallery, people, seed=34)
    rows = with_broken_rows(good, seed=35)
    folder = out / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(SHARDS):
        part = rows[len(rows) * shard // SHARDS : len(rows) * (shard + 1) // SHARDS]
        pq.write_table(
            pa.Table.from_pylist(part, schema=SCHEMA),
            folder / f"train-{shard:05d}-of-{SHARDS:05d}.parquet",
            compression="zstd",
            compression_level=19,
            use_dictionary=[name for name in SCHEMA.names if name not in ("jpg_0", "jpg_1")],
        )
    _write_truth(out, gallery, people)
    for split in ("train", "validation", "test"):
        captions = pair_captions() if split == "train" else split_captions(split)
        (out / "prompts").mkdir(exist_ok=True)
        (out / "prompts" / f"{split}.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    verdicts = np.array([row["label_0"] for row in good])
    return {
        "rows": len(rows),
        "pairs": len(good),
        "images": len(gallery.uids),
        "prompts": len(set(gallery.captions)),
        "held_out": dict(SPLIT_SIZES),
        "ties": float((verdicts == 0.5).mean()),
    }


def _write_truth(out: Path, gallery: Gallery, people: Crowd) -> None:
    columns: dict[str, Any] = {
        "image_uid": list(gallery.uids),
        "prompt": list(gallery.captions),
        "model": list(gallery.models),
        "true_utility": utility(gallery.parts),
    }
    columns |= {name: gallery.parts[:, index] for index, name in enumerate(ATTRIBUTES)}
    pq.write_table(pa.table(columns), out / "truth.parquet", compression="zstd")
    users: dict[str, Any] = {"user_id": people.user_ids, "is_minority": people.is_minority}
    users |= {f"weight_{name}": people.weights[:, index] for index, name in enumerate(ATTRIBUTES)}
    pq.write_table(pa.table(users), out / "users.parquet", compression="zstd")


def base_folder(out: Path) -> Path:
    return hub_folder(out, files.BASE)
