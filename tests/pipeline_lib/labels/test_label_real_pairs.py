"""Voting over real pairs with the scores their authors published, against ten independent lines."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.data.ingest import ingest
from pipeline_lib.labels.recipe import build_labels, required_scorers
from pipeline_lib.scoring.published import import_scores

DATA = Path(os.environ.get("PREFERENCE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
PUBLISHED_NAME = {"clip": "clip_h14"}


def test_published_scores_vote_as_computed_by_hand(tmp_path: Path) -> None:
    folder = DATA / "mj-bench-objects"
    if not folder.is_dir():
        pytest.skip(f"real pairs are absent: no folder {folder} (set PREFERENCE_DATA)")
    published = pq.read_table(folder / "published_scores.parquet").to_pylist()
    value = {(row["scorer"], row["image_uid"]): row["score"] for row in published}
    rows = [
        row
        for file in sorted(folder.glob("train-*.parquet"))
        for row in pq.read_table(file, columns=["image_0_uid", "image_1_uid", "label_0"]).to_pylist()
    ]
    store = str(tmp_path)
    pairs = ingest(store, IngestConfig(source=str(folder)))
    imported = import_scores(store, pairs, str(folder / "published_scores.parquet"))
    datasets = {name: imported[PUBLISHED_NAME.get(name, name)] for name in (*required_scorers("k5"), "imagereward")}
    for recipe in ("balanced", "voting5"):
        expected = {}
        for row in rows:
            images = row["image_0_uid"], row["image_1_uid"]
            total = 0 if recipe == "balanced" else (1 if row["label_0"] == 1 else -1)
            for scorer in required_scorers(recipe):
                first, second = (value[PUBLISHED_NAME.get(scorer, scorer), image] for image in images)
                total += (first > second) - (first < second)
            expected[images] = float(total > 0) if total else row["label_0"]
        labels = build_labels(store, recipe, pairs, datasets)
        found = labels.scan().select("image_0", "image_1", "target").collect().rows()
        assert {(first, second): target for first, second, target in found} == expected
