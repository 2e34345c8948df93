"""The stage: coverage of the pairs, one decode per image, resumption, quarantine, identical bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline_lib.core import images as pixels
from pipeline_lib.core import schemas
from pipeline_lib.core.digest import text_id
from pipeline_lib.core.store import Dataset, verify, writer
from pipeline_lib.scoring import engine, score, stage
from pipeline_lib.scoring.base import Scorer
from pipeline_lib.scoring.preprocess import letterbox_name
from tests.pipeline_lib.scoring.conftest import NAMES, picture

Encode = Callable[[Any], torch.Tensor]
PROMPTS = ["a red circle", "blue squares", "a dog"]


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def ingest(store: Path, broken: tuple[str, ...] = ()) -> Dataset:
    """Two image shards of 40 and 5 images, pairs that repeat images and prompts, one image for two prompts."""
    w = writer(str(store), "ingest", 1, {"broken": broken})
    uids = [f"image-{i:02d}" for i in range(45)]
    content = {uid: png(picture(40 + i % 7, 36, i)) for i, uid in enumerate(uids)}
    content |= {uid: content[uid][:60] for uid in broken}
    shards = []
    for index, part in enumerate((uids[:40], uids[40:])):
        rows = [{"image_uid": u, "bytes": content[u], "width": 40, "height": 36, "sha256": "0" * 64} for u in part]
        shards.append(w.write_table(f"images/part-{index:05d}.parquet", pa.Table.from_pylist(rows, schemas.IMAGES)))
    pairs = []
    for i in range(44):
        pairs.append((uids[i], uids[i + 1], PROMPTS[i // 15]))
    pairs.append((uids[0], uids[44], PROMPTS[2]))
    rows = [
        {
            **dict.fromkeys(schemas.PAIRS.names),
            "pair_id": f"pair-{i}",
            "prompt_id": text_id(prompt),
            "prompt": prompt,
            "image_0": one,
            "image_1": other,
            "split": "train",
        }
        for i, (one, other, prompt) in enumerate(pairs)
    ]
    shards.append(w.write_table("pairs/part-00000.parquet", pa.Table.from_pylist(rows, schemas.PAIRS)))
    return w.commit(shards)


def keys(dataset: Dataset) -> list[tuple[str, str | None]]:
    return dataset.scan().select("image_uid", "prompt_id").collect().rows()


def test_every_image_and_prompt_of_the_pairs_once(tmp_path: Path, mirror: Path) -> None:
    ingested = ingest(tmp_path)
    steps: list[tuple[int, int]] = []
    scores = score(str(tmp_path), NAMES, ingested, str(mirror), lambda *step: steps.append(step), device="cpu")
    assert list(scores) == NAMES
    assert steps == [(1, 2), (2, 2)]
    pairs = ingested.scan("pairs").collect()
    asked = {(uid, p) for side in ("image_0", "image_1") for uid, p in pairs.select(side, "prompt_id").rows()}
    for name in NAMES:
        found = keys(scores[name])
        assert scores[name].stage == f"scores-{name}"
        assert len(found) == len(set(found)) == scores[name].counts["scored"]
        assert set(found) == ({(f"image-{i:02d}", None) for i in range(45)} if name == "aesthetic" else asked)
        assert scores[name].scan("quarantine").collect().is_empty()
        verify(scores[name])
        table = scores[name].read(scores[name].tables()[0])
        assert table.schema.equals(schemas.SCORES)
        assert b'"weights":' in table.schema.metadata[stage.METADATA_KEY]
    assert len(asked) > 45, "some images are judged for two prompts"


def test_scores_are_those_of_score_images(tmp_path: Path, mirror: Path, scorers: dict[str, Scorer]) -> None:
    datasets = score(str(tmp_path), ["hpsv2", "imagereward"], ingest(tmp_path), str(mirror), device="cpu")
    texts = {text_id(prompt): prompt for prompt in PROMPTS}
    for name, dataset in datasets.items():
        rows = dataset.scan().collect()
        images = [picture(40 + int(uid[-2:]) % 7, 36, int(uid[-2:])) for uid in rows["image_uid"]]
        expected = engine.score_images([scorers[name]], images, [texts[p] for p in rows["prompt_id"]])[name]
        np.testing.assert_allclose(rows["score"].to_numpy(), expected, atol=1e-5)


def test_one_decode_per_image_one_tower_pass_for_two_scorers(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    towers: Counter[int] = Counter()
    texts: Counter[str] = Counter()
    original_decode, original_load = pixels.decode, engine.load_scorers

    def decode(content: bytes) -> Image.Image:
        decoded.append(content)
        return original_decode(content)

    def load(*given: Any) -> list[Scorer]:
        loaded = original_load(*given)
        for scorer in loaded:
            encode_prompts = scorer.encode_prompts

            def counted(prompts: list[str], run: Encode = encode_prompts) -> torch.Tensor:
                texts.update(prompts)
                return run(prompts)

            object.__setattr__(scorer, "encode_prompts", counted)
        for tower in engine.distinct_towers(loaded):
            encode = tower.encode

            def seen(pixels: torch.Tensor, run: Encode = encode, key: int = id(tower)) -> torch.Tensor:
                towers[key] += len(pixels)
                return run(pixels)

            object.__setattr__(tower, "encode", seen)
        return loaded

    monkeypatch.setattr(pixels, "decode", decode)
    monkeypatch.setattr(engine, "load_scorers", load)
    score(str(tmp_path), NAMES, ingest(tmp_path), str(mirror), device="cpu")
    assert len(decoded) == len(set(decoded)) == 45
    assert list(towers.values()) == [45] * 4, "clip and aesthetic share a tower"
    assert texts == dict.fromkeys(PROMPTS, 4), "each of four scorers encodes a prompt once, not once per shard"


def test_rerun_is_a_lookup_and_the_bytes_are_the_same(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingested = ingest(tmp_path)
    first = score(str(tmp_path / "one"), NAMES, ingested, str(mirror), device="cpu")
    second = score(str(tmp_path / "two"), NAMES[::-1], ingested, str(mirror), device="cpu")
    assert {n: d.digest for n, d in first.items()} == {n: d.digest for n, d in second.items()}

    def fail(*args: object) -> None:
        raise AssertionError("weights were loaded for a finished dataset")

    monkeypatch.setattr(engine, "load_scorers", fail)
    again = score(str(tmp_path / "one"), NAMES, ingested, str(mirror), device="cpu")
    assert {n: d.digest for n, d in again.items()} == {n: d.digest for n, d in first.items()}


def test_resumes_shard_by_shard(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingested = ingest(tmp_path)
    whole = score(str(tmp_path / "whole"), ["clip", "pickscore"], ingested, str(mirror), device="cpu")
    store = str(tmp_path / "killed")
    work = stage.open_work(store, ["clip", "pickscore"], ingested, str(mirror), "cpu")
    loaded = engine.load_scorers(["clip", "pickscore"], str(mirror), "cpu")
    stage.score_shard(work, loaded, ingested, 0)
    stage.score_shard(work[:1], loaded, ingested, 1)

    scored: list[str] = []
    original = engine.score_batch

    def count(scorers: list[Scorer], *rest: Any) -> dict[str, torch.Tensor]:
        scored.extend(scorer.name for scorer in scorers)
        return original(scorers, *rest)

    monkeypatch.setattr(engine, "score_batch", count)
    resumed = score(store, ["clip", "pickscore"], ingested, str(mirror), device="cpu")
    assert set(scored) == {"pickscore"}, "only the missing shard of one scorer was computed"
    assert {n: d.digest for n, d in resumed.items()} == {n: d.digest for n, d in whole.items()}


def test_broken_images_and_non_finite_scores_are_quarantined(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingested = ingest(tmp_path, broken=("image-03",))
    original = engine.score_batch

    def poisoned(scorers: list[Scorer], *rest: Any) -> dict[str, torch.Tensor]:
        values = {name: value.clone() for name, value in original(scorers, *rest).items()}
        values["clip"][0], values["aesthetic"][-1] = np.nan, np.inf
        return values

    monkeypatch.setattr(engine, "score_batch", poisoned)
    scores = score(str(tmp_path), ["clip", "aesthetic"], ingested, str(mirror), device="cpu")
    for name, dataset in scores.items():
        assert np.isfinite(dataset.scan().collect()["score"].to_numpy()).all()
        refused = dataset.scan("quarantine").collect()
        assert dataset.counts["unreadable_image"] == 1
        assert dataset.counts["non_finite_score"] == refused.height - 1 > 0
        assert refused.filter(refused["reason"] == "unreadable_image")["locator"].to_list() == ["image-03"]
        assert "image-03" not in dataset.scan().collect()["image_uid"]
        assert refused["detail"].str.contains("nan|inf").sum() == dataset.counts["non_finite_score"], name


def test_another_version_is_another_dataset(tmp_path: Path, mirror: Path) -> None:
    ingested = ingest(tmp_path)
    one, two = stage.open_work(str(tmp_path), ["hpsv2", "hpsv2.0"], ingested, str(mirror), "cpu")
    assert one.writer.uri != two.writer.uri
    assert one.identity["preprocess"] == letterbox_name(antialias=False)
    assert one.identity["dtype"] == "float32"
