"""Pairs, noise and prompts are what (seed, pair, visit) say, however the run is cut into batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline_lib.core.errors import LabelError
from pipeline_lib.core.store import Dataset
from pipeline_lib.training.batches import Batch, Sampler
from pipeline_lib.training.tables import Tables, open_tables, read_labels

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tables(
    encoded: dict[str, Dataset], labels: dict[str, Dataset], tmp_path_factory: pytest.TempPathFactory
) -> Tables:
    return open_tables(encoded["xl"], read_labels(labels["dedpo"]), tmp_path_factory.mktemp("cache"))


def sampler(tables: Tables, seed: int = 0, dropout: float = 0.0) -> Sampler:
    return Sampler(tables, seed, range(1000), dropout)


def same(left: Batch, right: Batch) -> bool:
    return all(torch.equal(getattr(left, name), getattr(right, name)) for name in ("noise", "timesteps", "embeddings"))


def test_rows_are_those_of_the_datasets(
    tables: Tables, encoded: dict[str, Dataset], labels: dict[str, Dataset]
) -> None:
    latents = {row["image_uid"]: row for row in encoded["xl"].scan("latents").collect().to_dicts()}
    prompts = {row["prompt_id"]: row for row in encoded["xl"].scan("prompts").collect().to_dicts()}
    for i, row in enumerate(labels["dedpo"].scan().sort("pair_id").collect().to_dicts()):
        for side in (0, 1):
            stored = latents[row[f"image_{side}"]]
            moments = tables.moments[tables.images[i, side]]
            np.testing.assert_array_equal(moments[0].reshape(-1), np.float16(stored["mean"]))
            np.testing.assert_array_equal(moments[1].reshape(-1), np.float16(stored["std"]))
        embedding = tables.embeddings[tables.prompts[i]].reshape(-1)
        np.testing.assert_array_equal(embedding, np.float16(prompts[row["prompt_id"]]["embedding"]))
        assert tables.pooled is not None
        np.testing.assert_array_equal(
            tables.pooled[tables.prompts[i]], np.float16(prompts[row["prompt_id"]]["pooled"])
        )
        expected = [row["target"], row["is_human"], row["human"] or 0, row["g_hat"], 1, 0]
        np.testing.assert_allclose(tables.labels[:, i], np.array(expected, np.float32))
    assert tables.labelled_share == pytest.approx(1 / 3)
    assert not tables.flips_known
    assert replace(tables, labels=np.ones_like(tables.labels)).flips_known
    assert tables.scaling_factor == 2.0


def test_arrays_are_memory_mapped(tables: Tables) -> None:
    assert isinstance(tables.moments, np.memmap)
    assert isinstance(tables.embeddings, np.memmap)


def test_batches_do_not_depend_on_how_the_run_is_cut(tables: Tables) -> None:
    whole = sampler(tables).batch(8, 8, CPU)
    parts = [sampler(tables).batch(start, 4, CPU) for start in (8, 12)]
    assert torch.equal(whole.noise, torch.cat([part.noise for part in parts]))
    assert torch.equal(whole.clean[:4], parts[0].clean[:4])
    assert torch.equal(whole.clean[8:12], parts[0].clean[4:])
    assert torch.equal(whole.labels, torch.cat([part.labels for part in parts], 1))


def test_every_pair_comes_once_per_visit_in_a_new_order_with_new_noise(tables: Tables) -> None:
    n = len(tables)
    first, second = (sampler(tables).batch(visit * n, n, CPU) for visit in (0, 1))
    assert not torch.equal(first.labels, second.labels)
    assert sorted(map(tuple, first.labels.T.tolist())) == sorted(map(tuple, second.labels.T.tolist()))
    assert len(torch.cat([first.noise, second.noise]).flatten(1).unique(dim=0)) == 2 * n


def test_seed_changes_noise(tables: Tables) -> None:
    assert same(sampler(tables, 1).batch(0, 8, CPU), sampler(tables, 1).batch(0, 8, CPU))
    assert not same(sampler(tables, 1).batch(0, 8, CPU), sampler(tables, 2).batch(0, 8, CPU))


def test_latents_are_posterior_samples_scaled_by_the_vae(tables: Tables) -> None:
    n, visits = len(tables), 300
    drawn = sampler(tables)
    batches = [drawn.batch(visit * n, n, CPU) for visit in range(visits)]
    clean = torch.cat([batch.clean for batch in batches]).double().numpy()
    moments = tables.moments.astype(np.float64)  # every image occurs as often on each side
    expected = np.concatenate([moments[tables.images[:, side]] for side in (0, 1)])
    np.testing.assert_allclose(clean.mean(0), expected[:, 0].mean(0) * 2, atol=0.05)
    variance = expected[:, 0].var(0) + (expected[:, 1] ** 2).mean(0)
    np.testing.assert_allclose(clean.var(0), variance * 4, rtol=0.1)


def test_prompt_dropout_gives_a_pair_the_empty_prompt(tables: Tables) -> None:
    n = 40 * len(tables)
    plain, dropped = sampler(tables).batch(0, n, CPU), sampler(tables, dropout=0.25).batch(0, n, CPU)
    changed = (plain.embeddings != dropped.embeddings).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.25, abs=0.06)
    empty = torch.from_numpy(tables.embeddings[tables.empty_prompt].astype(np.float32))
    assert (dropped.embeddings[changed] == empty).all()
    assert torch.equal(plain.noise, dropped.noise)


def test_timesteps_are_uniform(tables: Tables) -> None:
    timesteps = sampler(tables).batch(0, 200 * len(tables), CPU).timesteps.numpy()
    counts = np.histogram(timesteps, 10, (0, 1000))[0]
    expected = len(timesteps) / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_images_that_were_not_encoded_are_named(
    encoded: dict[str, Dataset], labels: dict[str, Dataset], tmp_path: Path
) -> None:
    frame = read_labels(labels["human"])
    frame = frame.with_columns(image_0=frame["image_0"].str.replace("image-03", "image-elsewhere"))
    with pytest.raises(LabelError, match=r"1 of 13 .*image-elsewhere"):
        open_tables(encoded["epsilon"], frame, tmp_path)
    assert list(tmp_path.iterdir()) == []
