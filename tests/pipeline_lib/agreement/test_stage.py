"""The stage: table, numbers and page of hand-made scores; real pairs with the scores their authors published."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline_lib.agreement import agreement
from pipeline_lib.agreement.disputes import SHOWN
from pipeline_lib.agreement.distributions import distribution
from pipeline_lib.core import schemas
from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import Dataset, verify, writer
from pipeline_lib.data.ingest import ingest
from pipeline_lib.scoring.published import import_scores
from tests.pipeline_lib.labels.tables import ingested, scores
from tests.pipeline_lib.pages import Page

DATA = Path(os.environ.get("PREFERENCE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


def read_json(dataset: Dataset) -> Any:
    with dataset.open("report.json") as file:
        return json.load(file)


def read_page(dataset: Dataset) -> tuple[str, Page]:
    with dataset.open("report.html") as file:
        html = file.read().decode()
    return html, Page(html)


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format="PNG")
    return buffer.getvalue()


def pictured(store: str, pairs: Dataset) -> Dataset:
    """The same pairs in a dataset that has their images, over two shards; the last one is missing."""
    table = pairs.scan("pairs").collect()
    uids = [uid for row in table.iter_rows(named=True) for uid in (row["image_0"], row["image_1"])][:-1]
    w = writer(store, "ingest", 1, {"source": "here", "split": "train", "pictured": pairs.digest})
    shards = [w.write_table("pairs/part-00000.parquet", pairs.read(pairs.tables("pairs")[0]))]
    for part, some in enumerate((uids[:3], uids[3:])):
        rows = [
            {"image_uid": uid, "bytes": png(uids.index(uid)), "width": 16, "height": 16, "sha256": "0"} for uid in some
        ]
        shards.append(w.write_table(f"images/part-{part:05d}.parquet", pa.Table.from_pylist(rows, schemas.IMAGES)))
    return w.commit(shards)


def both(store: str, count: int, **differences: list[float | None]) -> dict[str, Dataset]:
    """Score datasets with these differences; a pair with None has no score."""
    return {
        name: scores(
            store,
            name,
            {(f"{i}-{s}", f"p{i}"): d * (s == "a") for i, d in enumerate(values) if d is not None for s in "ab"},
        )
        for name, values in differences.items()
    }


def test_table_numbers_and_page(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = pictured(store, ingested(store, [1.0, 0.0, 0.5, None]))
    found = both(store, 4, clip=[1.0, 2.0, 3.0, 4.0], hpsv2=[2.0, -1.0, 0.0, None])
    done = agreement(store, pairs, found)
    verify(done)
    assert done.counts == {"pairs": 4}
    table = done.scan().collect()
    assert table.columns == ["pair_id", "prompt_id", "image_0", "image_1", "human", "clip", "hpsv2", "dispute"]
    assert table["clip"].to_list() == [1, 2, 3, 4] and table["hpsv2"].to_list() == [2, -1, 0, None]
    assert table.schema["clip"] == pl.Float32 and [d > 0 for d in table["dispute"]] == [False, True, False, False]

    report = read_json(done)
    assert report["accuracy"]["hpsv2"] | {"n": 2, "agree": 2, "ties": 1, "missing": 1} == report["accuracy"]["hpsv2"]
    assert report["disputed"] == 1
    assert report["distributions"]["clip"]["count"] == sum(report["distributions"]["clip"]["bins"]) == 8
    html, page = read_page(done)
    page.check()
    assert "http://" not in html and "https://" not in html
    for words in ("2 scorers on train", "CLIP", "HPSv2", "100.0%", "50.0%", "Preferred by people", "p1"):
        assert words in page.text, words
    assert len(page.all("img")) == 2 and "p0" not in page.text


def test_same_scores_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "other"):
        store = str(tmp_path / name)
        pairs = pictured(store, ingested(store, [1.0, 0.0]))
        found = both(store, 2, clip=[1.0, 2.0], hpsv2=[2.0, -1.0])
        done = agreement(store, pairs, found)
        assert agreement(store, pairs, found) == done
        digests.add(done.digest)
    assert len(digests) == 1


def test_columns_carry_the_backbone_where_it_is_recorded(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [1.0, 0.0])
    plain = both(store, 2, clip=[1.0, 2.0])["clip"]
    table = plain.read(plain.tables()[0])

    def recorded(stage: str, column: str) -> Dataset:
        w = writer(store, stage, 1, {"scorer": "clip", "column": column})
        return w.commit([w.write_table("part-00000.parquet", table)])

    named = recorded("scores-clip", "clip_l14_openai")
    assert "clip_l14_openai" in agreement(store, pairs, {"clip": named}).scan().collect().columns
    twice = agreement(store, pairs, {"clip": named, "other": recorded("scores-other", "clip_l14_openai")})
    assert {"clip", "other"} <= set(twice.scan().collect().columns), "two scorers do not share a column"
    assert "clip_l14_openai" in read_page(agreement(store, pairs, {"clip": named}))[1].text


def test_distribution_of_finite_scores(tmp_path: Path) -> None:
    store = str(tmp_path)
    found = distribution(scores(store, "x", {(str(i), None): float(i) for i in range(81)} | {("n", None): np.nan}))
    assert (found["count"], found["mean"], found["median"], found["low"], found["high"]) == (81, 40, 40, 0, 80)
    assert found["bins"] == [2] * 39 + [3] and found["edges"] == list(range(0, 81, 2))
    same = distribution(scores(store, "y", {("a", None): 1.0, ("b", None): 1.0}))
    assert same["edges"][0] < 1 < same["edges"][-1] and sum(same["bins"]) == 2
    assert distribution(scores(store, "z", {("a", None): np.nan})) == {"count": 0}
    assert distribution(writer(store, "scores-p", 1, {}).commit([])) == {"count": 0}


def test_a_scorer_alone_and_pairs_without_pictures(tmp_path: Path) -> None:
    store = str(tmp_path)
    with pytest.raises(ConfigError, match="no scores"):
        agreement(store, ingested(store, [1.0]), {})
    alone = agreement(store, ingested(store, [1.0]), both(store, 1, clip=[0.0]))
    assert "No pair has both" in read_page(alone)[1].text and read_json(alone)["disputed"] == 0
    two = agreement(store, ingested(store, [None]), both(store, 1, clip=[1.0], hpsv2=[-1.0]))
    _, page = read_page(two)
    page.check()
    assert "Most disputed pairs" in page.text and not page.all("img")


def test_accuracy_of_published_scores_is_what_the_files_imply(tmp_path: Path) -> None:
    folder = DATA / "mj-bench-objects"
    if not folder.is_dir():
        pytest.skip(f"real pairs are absent: no folder {folder} (set PREFERENCE_DATA)")
    files = sorted(folder.glob("train-*.parquet"))
    rows = [
        row
        for file in files
        for row in pq.read_table(file, columns=["image_0_uid", "image_1_uid", "label_0"]).to_pylist()
    ]
    published = pq.read_table(folder / "published_scores.parquet").to_pylist()
    value = {(row["scorer"], row["image_uid"]): row["score"] for row in published}
    names = {scorer for scorer, _ in value}
    assert len(rows) == 100 and len(names) == 5
    right = dict.fromkeys(names, 0)
    for row in rows:
        for name in names:
            difference = value[name, row["image_0_uid"]] - value[name, row["image_1_uid"]]
            right[name] += (difference > 0) == (row["label_0"] == 1) and difference != 0

    store = str(tmp_path)
    pairs = ingest(store, IngestConfig(source=str(folder)))
    imported = import_scores(store, pairs, str(folder / "published_scores.parquet"))
    assert imported.keys() == names
    assert all(d.counts == {"scored": 200, "missing": 0, "repeated": 0} for d in imported.values())
    done = agreement(store, pairs, imported)
    report = read_json(done)
    assert {name: row["accuracy"] for name, row in report["accuracy"].items()} == {
        name: count / len(rows) for name, count in right.items()
    }
    assert all(row["low"] < row["accuracy"] < row["high"] for row in report["accuracy"].values())
    html, page = read_page(done)
    page.check()
    for name, count in right.items():
        assert f"{100 * count / len(rows):.1f}%" in page.text, name
    assert len(page.all("img")) == 2 * SHOWN and len(html) < 4_000_000
