"""Determinism of the engine: no score depends on the batch, the shard, the history or the workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline_lib.scoring import batching, engine, prompts, score, stage
from pipeline_lib.scoring.base import Scorer
from tests.pipeline_lib.scoring.conftest import NAMES
from tests.pipeline_lib.scoring.test_stage import ingest


@pytest.mark.parametrize("name", NAMES)
def test_any_batch_size_and_position_gives_the_same_score(
    name: str,
    scorers: dict[str, Scorer],
    pictures: list[Image.Image],
    prompts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1: every image alone; 5, 7: odd, with a last partial batch; 36: all at once. Then the same images backwards."""
    scorer = scorers[name]
    images, texts = pictures * 4, prompts * 4
    results = []
    for rows in (1, 5, 7, 16, 36):
        for model in (scorer.tower.encode, scorer.score, scorer.encode_prompts):
            monkeypatch.setattr(batching.batches_of(model), "rows", rows)
        results.append(engine.score_images([scorer], images, texts)[name])
        results.append(engine.score_images([scorer], images[::-1], texts[::-1])[name][::-1])
    expected = np.tile(results[0][: len(pictures)], 4)
    for values in results:
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
    assert np.ptp(expected) > 1e-3


def test_workers_and_threads_write_the_same_bytes(tmp_path: Path, mirror: Path) -> None:
    ingested = ingest(tmp_path, broken=("image-03",))
    digests = [
        {
            name: dataset.digest
            for name, dataset in score(
                str(tmp_path / str(workers)), NAMES, ingested, str(mirror), device="cpu", decode_workers=workers
            ).items()
        }
        for workers in (0, 2)
    ]
    assert digests[0] == digests[1]


def test_shards_in_any_order_and_process_write_the_same_bytes(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts are encoded once per process; who asks first must not show."""
    ingested = ingest(tmp_path)
    names = ["clip", "imagereward"]
    whole = score(str(tmp_path / "whole"), names, ingested, str(mirror), device="cpu")
    monkeypatch.setattr(prompts, "MOST_BYTES", 0)  # every block is encoded again
    work = stage.open_work(str(tmp_path / "back"), names, ingested, str(mirror), "cpu")
    parts: dict[str, list[object]] = {name: [] for name in names}
    for index in (1, 0):
        loaded = engine.load_scorers(names, str(mirror), "cpu")
        for name, shards in stage.score_shard(work, loaded, ingested, index).items():
            parts[name] = [*shards, *parts[name]]
    for item in work:
        assert item.writer.commit(parts[item.scorer]).digest == whole[item.scorer].digest  # type: ignore[arg-type]


def test_prompts_are_encoded_in_blocks_of_the_dataset(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt's neighbours are those of the dataset, whichever prompts are asked for."""
    import polars as pl

    from pipeline_lib.scoring.questions import Questions

    scorer = engine.load_scorers(["pickscore"], str(mirror), "cpu")[0]
    texts = [f"prompt {i}" for i in range(10)]
    asked = Questions("a", texts, texts, pl.DataFrame())
    monkeypatch.setattr(prompts, "BLOCK", 4)
    groups: list[int] = []
    original = scorer.encode_prompts
    object.__setattr__(scorer, "encode_prompts", lambda part: (groups.append(len(part)), original(part))[1])
    some = prompts.features([scorer], asked, [9, 1])["pickscore"]
    assert groups == [2, 4]
    everything = prompts.features([scorer], asked, list(range(10)))["pickscore"]
    assert groups == [2, 4, 4], "known blocks are not encoded again"
    assert np.array_equal(everything[[9, 1]], some)
    assert prompts.features([scorer], asked, []) == {}


def test_precision_is_part_of_what_decides_a_score(mirror: Path) -> None:
    plain = engine.identities(["clip"], str(mirror), "cpu")["clip"]
    brain = engine.identities(["clip"], str(mirror), "cpu", "bfloat16")["clip"]
    assert plain["dtype"] == "float32" and brain["dtype"] == "bfloat16"
    scorer = engine.load_scorers(["clip"], str(mirror), "cpu", "bfloat16")[0]
    assert engine.score_images([scorer], [Image.new("RGB", (40, 40))], ["a"])["clip"].dtype == np.float32
