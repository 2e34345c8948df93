"""Finished datasets, checkpoints and models that were changed afterwards: none is trained on, judged or registered.

The quick part tries each kind of damage once on each kind of file, the slow one twenty times.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from pipeline_lib.core import schemas
from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.digest import digest, file_sha256
from pipeline_lib.core.errors import DatasetCorruptError, ManifestError, TrainingError
from pipeline_lib.core.store import Dataset, open_dataset, verify, writer
from pipeline_lib.encoding.stage import encode
from pipeline_lib.labels.recipe import build_labels
from pipeline_lib.models.aligned import LORA_WEIGHTS, load_pipeline
from pipeline_lib.training import checkpoints
from pipeline_lib.training.checkpoints import Checkpoint
from pipeline_lib.training.launch import job
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.trainer import train
from tasks.champion import base_of
from tasks.register import register
from tests.pipeline_lib.damage import KINDS, damaged
from tests.pipeline_lib.models import tiny
from tests.pipeline_lib.training.runs import stop_in_step, weights

CONFIG = TrainConfig(method="diffusion-dpo", adapter="lora", beta=100.0, steps=4, batch_size=4, checkpoint_every=1)


def scores(store: str, ingested: Dataset, seed: int) -> Dataset:
    """Scores of every image for its pairs' prompts, in two shards."""
    pairs = ingested.scan("pairs").collect()
    asked = sorted({(row[side], row["prompt_id"]) for row in pairs.to_dicts() for side in ("image_0", "image_1")})
    drawn = np.random.default_rng(seed).normal(size=len(asked))
    rows = [
        {"image_uid": uid, "prompt_id": prompt, "score": float(score)}
        for (uid, prompt), score in zip(asked, drawn, strict=True)
    ]
    w, half = writer(store, "scores-clip", 1, {"seed": seed}, [ingested]), len(rows) // 2
    parts = [pa.Table.from_pylist(part, schema=schemas.SCORES) for part in (rows[:half], rows[half:])]
    return w.commit([w.write_table(f"part-{i:05d}.parquet", part) for i, part in enumerate(parts)])


def model(store: str, base: BaseModel, encoded: Dataset, labels: Dataset, seed: int, run: Path) -> Dataset:
    """A model of one step."""
    config = replace(CONFIG, steps=1, seed=seed)
    target = job.model_writer(store, base, config, encoded, labels)
    assert (
        train(TrainSpec(model=base, train=config, encoded=encoded.uri, labels=labels.uri, run_dir=str(run))) == "done"
    )
    metrics = target.write_file("metrics.jsonl", run / "metrics.jsonl")
    return target.commit([*target.write_folder("model", run / "model"), metrics])


def evaluation(store: str, judged: Dataset, seed: int) -> Dataset:
    w = writer(store, "evaluation", 5, {"seed": seed}, [judged])
    files = {"report.json": json.dumps({"seed": seed, "win_rate": 0.5}), "report.html": f"<p>{seed}</p>"}
    return w.commit([w.write_bytes(name, text.encode()) for name, text in files.items()])


class Chain:
    """Two datasets of each stage, of one base, and what reads the first one of each."""

    def __init__(self, root: Path, mirror: Path) -> None:
        self.root, self.store = root, str(root / "store")
        self.base = tiny.base(mirror, "epsilon")
        pairs = [tiny.ingest(self.store, pairs) for pairs in (12, 8)]
        scored = [scores(self.store, pairs[0], seed) for seed in (0, 1)]
        labels = [tiny.label(self.store, pairs[0], kind) for kind in ("human", "soft")]
        latents = [encode(self.store, self.base, tiny.ENCODE, one) for one in pairs]
        models = [model(self.store, self.base, latents[0], labels[0], i, root / f"model-{i}") for i in (0, 1)]
        evaluations = [evaluation(self.store, models[0], seed) for seed in (0, 1)]
        self.made = {
            "pairs": pairs,
            "scores": scored,
            "labels": labels,
            "latents": latents,
            "models": models,
            "evaluations": evaluations,
        }
        self.tries = 0

    def use(self, kind: str) -> None:
        """Do what is done with such a dataset; raises PipelineError where it is refused."""
        self.tries += 1
        new = self.root / f"try-{self.tries}"
        opened = open_dataset(self.made[kind][0].uri)
        if kind == "pairs":
            clip = {"clip": open_dataset(self.made["scores"][0].uri)}
            build_labels(str(new), [{"single": "clip"}], opened, clip)
            encode(str(new), self.base, tiny.ENCODE, opened)
        elif kind == "scores":
            build_labels(str(new), [{"single": "clip"}], open_dataset(self.made["pairs"][0].uri), {"clip": opened})
        elif kind in ("labels", "latents"):
            latents, labels = self.made["latents"][0].uri, self.made["labels"][0].uri
            config = replace(CONFIG, steps=1)
            train(TrainSpec(model=self.base, train=config, encoded=latents, labels=labels, run_dir=str(new)))
        else:
            if kind == "models":
                base_of(opened)
            register.fn("m", self.base, self.made["models"][0].uri, self.made["evaluations"][0].uri)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Chain:
    return Chain(tmp_path_factory.mktemp("chain"), mirror)


STAGES = ("pairs", "scores", "labels", "latents", "models", "evaluations")
TRIES = [pytest.param(range(1), id="once"), pytest.param(range(1, 21), id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("seeds", TRIES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", STAGES)
def test_changed_datasets_are_refused_by_name(chain: Chain, stage: str, kind: str, seeds: range) -> None:
    first, second = chain.made[stage]
    for seed in seeds:
        rng = random.Random(f"{stage} {kind} {seed}")
        with damaged(Path(first.uri), "manifest.json", kind, rng, Path(second.uri)) as what:
            with pytest.raises(DatasetCorruptError) as refused:
                chain.use(stage)
            assert first.uri in str(refused.value), what
    verify(first)


@pytest.mark.parametrize("stage", ["pairs", "scores", "labels", "latents"])
def test_unchanged_datasets_are_used(chain: Chain, stage: str) -> None:
    chain.use(stage)


@pytest.mark.parametrize("name", ["base.json", LORA_WEIGHTS, "unet/config.json"])
def test_a_changed_model_is_not_loaded_by_its_folder_either(chain: Chain, name: str) -> None:
    folder = Path(chain.made["models"][0].uri, "model")
    path = folder / name
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((before or b"{}") + b" ")
    try:
        with pytest.raises(DatasetCorruptError, match=name):
            load_pipeline(folder, chain.base)
    finally:
        path.unlink() if before is None else path.write_bytes(before)


@pytest.mark.parametrize("seeds", TRIES)
@pytest.mark.parametrize("kind", KINDS)
def test_changed_checkpoints_are_not_continued_from(tmp_path: Path, kind: str, seeds: range) -> None:
    def saved(step: int) -> Checkpoint:
        drawn = np.random.default_rng(step).normal(size=(2, 50)).astype(np.float32)
        groups = {"trainable": {"w": drawn[0]}, "optimizer": {"w/exp_avg": drawn[1]}}
        return Checkpoint(
            step, "run", {k: _tensors(v) for k, v in groups.items()}, {"refreshes": step, "scaler": None}
        )

    for step in (1, 2):
        checkpoints.save(tmp_path, saved(step))
    for seed in seeds:
        rng = random.Random(f"checkpoint {kind} {seed}")
        folders = tmp_path / "step-000002", tmp_path / "step-000001"
        with damaged(folders[0], "state.json", kind, rng, folders[1]) as what:
            found = checkpoints.latest(tmp_path, "run")
            assert found and found.step == 1, what
            assert found.tensors["trainable"]["w"].equal(saved(1).tensors["trainable"]["w"])
    found = checkpoints.latest(tmp_path, "run")
    assert found and found.step == 2


def _tensors(values: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in values.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_with_a_changed_checkpoint_ends_as_if_nothing_had_happened(
    new_run: Callable[..., TrainSpec], kind: str
) -> None:
    whole = new_run(CONFIG, "whole", "epsilon")
    assert train(whole) == "done"
    for seed in range(3):
        spec = new_run(CONFIG, f"{kind}-{seed}", "epsilon")
        assert train(spec, stop_in_step(3)) == "interrupted"
        newest, older = (Path(spec.run_dir, "checkpoints", name) for name in ("step-000003", "step-000002"))
        with damaged(newest, "state.json", kind, random.Random(f"run {kind} {seed}"), older):
            assert train(spec) == "done"
        assert weights(spec) == weights(whole)


def test_labels_rewritten_with_their_manifest_are_refused(chain: Chain) -> None:
    """As a careful person does it: target becomes 1 - target, and the manifest has the new file's size and hash."""
    labels = chain.made["labels"][0]
    path, manifest = Path(labels.uri, "part-00000.parquet"), Path(labels.uri, "manifest.json")
    before = path.read_bytes(), manifest.read_bytes()
    try:
        table = pq.read_table(path)
        column = table.column_names.index("target")
        pq.write_table(table.set_column(column, "target", pc.subtract(1.0, table["target"])), path)
        with pytest.raises(DatasetCorruptError, match=r"part-00000\.parquet"):
            chain.use("labels")
        said = json.loads(manifest.read_text())
        said["shards"][0] |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        said["digest"] = digest([[shard["path"], shard["sha256"]] for shard in said["shards"]])
        manifest.write_text(json.dumps(said))
        with pytest.raises(ManifestError, match="was edited"):
            chain.use("labels")
    finally:
        path.write_bytes(before[0])
        manifest.write_bytes(before[1])


@pytest.mark.slow
def test_the_training_job_names_the_changed_file(chain: Chain, tmp_path: Path) -> None:
    latents, labels = chain.made["latents"][0], chain.made["labels"][0]
    flipped = damaged(Path(latents.uri), "manifest.json", "bit flip", random.Random(1), Path(latents.uri))
    said = r"DatasetCorruptError: .*1 of \d files are missing or not those"
    with flipped, pytest.raises(TrainingError, match=said):
        job.train(chain.store, chain.base, replace(CONFIG, seed=9), latents, labels, tmp_path)
    assert job.model_writer(chain.store, chain.base, replace(CONFIG, seed=9), latents, labels).finished() is None
