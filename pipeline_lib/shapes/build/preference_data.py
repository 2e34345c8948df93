"""The shipped comparisons: which images are compared, what is written, and the truth kept beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.shapes import hub_files as files
from pipeline_lib.shapes.annotators import Crowd, crowd
from pipeline_lib.shapes.build.pairs import (
    COMPARISONS_PER_ROUND,
    ROUNDS_PER_PROMPT,
    SCHEMA,
    Gallery,
    Row,
    new_uids,
    rounds,
    with_broken_rows,
)
from pipeline_lib.shapes.build.preferences import pair_captions
from pipeline_lib.shapes.build.sampling import load_base, sample
from pipeline_lib.shapes.grammar import SPLIT_SIZES, split_captions
from pipeline_lib.shapes.hub_files import hub_folder
from pipeline_lib.shapes.renderer import to_uint8
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
HELD_OUT = "heldout"
"""Folder of the comparisons on test captions."""


def make_gallery(
    base: Path, captions: tuple[str, ...], cache: Path | None = None, seed: int = 31, noise: int = 0
) -> Gallery:
    """16 images per caption: 3 drawn ones, the others samples of the base model at two guidance scales.

    `cache` (.npz) keeps the samples between runs; `seed` decides uids and drawings, `noise` the samples.
    """
    if cache is not None and cache.exists():
        with np.load(cache) as data:
            images, models = data["images"], tuple(str(name) for name in data["models"])
    else:
        images, models = _pictures(base, captions, seed + 1, noise)
        if cache is not None:
            np.savez_compressed(cache, images=images, models=np.array(models))
    names = tuple(caption for caption in captions for _ in range(IMAGES_PER_PROMPT))
    # Attributes are measured on the pixels people saw: after JPEG they hardly differ, so the originals serve.
    return Gallery(images, attributes(images, names), names, new_uids(len(names), seed), models)


def _pictures(base: Path, captions: tuple[str, ...], seed: int, noise: int) -> tuple[np.ndarray, tuple[str, ...]]:
    per_scale = (IMAGES_PER_PROMPT - DRAWN_PER_PROMPT + 1) // 2
    pipeline = load_base(base)
    rng = np.random.default_rng(seed)
    columns: list[np.ndarray] = []
    models: list[str] = []
    for index, (name, guidance) in enumerate(GUIDANCE.items()):
        count = per_scale if index == 0 else IMAGES_PER_PROMPT - DRAWN_PER_PROMPT - per_scale
        repeated = [caption for caption in captions for _ in range(count)]
        made = sample(pipeline, repeated, guidance, seed=noise + 1_000_000 * (index + 1))
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
    _write_rows(out / "pairs", "train", rows, SHARDS)
    _write_truth(out / "truth.parquet", gallery, set(gallery.uids))
    _write_users(out, people)
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


def write_held_out(out: Path, gallery: Gallery) -> dict[str, Any]:
    """Write heldout/ and heldout_truth.parquet: one comparison per caption, by the crowd that judged the others."""
    rows = rounds(gallery, crowd(PEOPLE, seed=33), seed=36, per_prompt=1, length=1)
    _write_rows(out / HELD_OUT, "test", rows, 1)
    shown = {row[side] for row in rows for side in ("image_0_uid", "image_1_uid")}
    _write_truth(out / f"{HELD_OUT}_truth.parquet", gallery, shown)
    ties = float(np.mean([row["label_0"] == 0.5 for row in rows]))
    return {"pairs": len(rows), "images": len(shown), "prompts": len(set(gallery.captions)), "ties": ties}


def _write_rows(folder: Path, split: str, rows: Sequence[Row], shards: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        part = rows[len(rows) * shard // shards : len(rows) * (shard + 1) // shards]
        pq.write_table(
            pa.Table.from_pylist(part, schema=SCHEMA),
            folder / f"{split}-{shard:05d}-of-{shards:05d}.parquet",
            compression="zstd",
            compression_level=19,
            use_dictionary=[name for name in SCHEMA.names if name not in ("jpg_0", "jpg_1")],
        )


def _write_truth(path: Path, gallery: Gallery, shown: Collection[str]) -> None:
    columns: dict[str, Any] = {
        "image_uid": list(gallery.uids),
        "prompt": list(gallery.captions),
        "model": list(gallery.models),
        "true_utility": utility(gallery.parts),
    }
    columns |= {name: gallery.parts[:, index] for index, name in enumerate(ATTRIBUTES)}
    known = pa.array([uid in shown for uid in gallery.uids])
    pq.write_table(pa.table(columns).filter(known), path, compression="zstd")


def _write_users(out: Path, people: Crowd) -> None:
    users: dict[str, Any] = {"user_id": people.user_ids, "is_minority": people.is_minority}
    users |= {f"weight_{name}": people.weights[:, index] for index, name in enumerate(ATTRIBUTES)}
    pq.write_table(pa.table(users), out / "users.parquet", compression="zstd")


def base_folder(out: Path) -> Path:
    return hub_folder(out, files.BASE)
