"""Keys of the stages: what is in them, and that datasets are found under the keys that held every setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core import store
from pipeline_lib.core.config import EvaluateConfig, IngestConfig, TrainConfig
from pipeline_lib.core.store import Dataset, DatasetWriter
from pipeline_lib.data.ingest import stage as ingest
from pipeline_lib.encoding.plan import encoded_writer
from pipeline_lib.generation import stage as generate
from pipeline_lib.generation.prompts import PromptSet
from pipeline_lib.models.identity import base_identity
from pipeline_lib.training.launch import job
from tests.pipeline_lib.models import tiny

TRAIN = TrainConfig(method="adaptive-dpo", margin_offset="authors", checkpoint_every=7)
IMAGES = EvaluateConfig(prompts="p", resolution=tiny.SIDE, seeds=(0, 1))
PROMPTS = PromptSet("p", ("a",))


@dataclass(frozen=True)
class Stage:
    """A stage's writer, and what was in its key before a setting at its default was left out."""

    today: DatasetWriter
    version: int
    before: dict[str, Any]
    inputs: Sequence[Dataset] = ()


def ingested(root: str, mirror: Path) -> Stage:
    job = ingest.start(root, IngestConfig(source="shapes://pairs", limit=5))
    before = {**asdict(job.config), "limit": 5, **job.source.identity()}
    return Stage(job.writer, ingest.VERSION, before)


def encoded(root: str, mirror: Path) -> Stage:
    pairs = tiny.ingest(root)
    w = encoded_writer(root, tiny.base(mirror, "v"), tiny.ENCODE, pairs)
    base = {**base_identity(tiny.base(mirror, "v")), "weights": w.config["model"]["weights"]}
    return Stage(w, 1, {"model": base, "encode": {"resolution": 8, "batch_size": 4, "mixed_precision": "no"}}, [pairs])


def painted(root: str, mirror: Path) -> Stage:
    before = {
        "base": base_identity(tiny.base(mirror, "v")),
        "prompts": PROMPTS.digest,
        "seeds": [0, 1],
        "scheduler": "dpmsolver++",
        "steps": 25,
        "guidance": 7.5,
        "resolution": tiny.SIDE,
        "batch_size": 16,
        "mixed_precision": "no",
    }
    return Stage(generate.open_painting(root, None, tiny.base(mirror, "v"), PROMPTS, IMAGES, "cpu").writer, 2, before)


def latents(root: str, mirror: Path) -> Dataset:
    """A dataset of the encode stage, as a training run's key knows it."""
    w = encoded_writer(root, tiny.base(mirror, "v"), tiny.ENCODE, tiny.ingest(root))
    return w.finished() or w.commit([])


def trained(root: str, mirror: Path) -> Stage:
    pairs, labels = latents(root, mirror), tiny.label(root, tiny.ingest(root))
    train = {name: value for name, value in asdict(TRAIN).items() if name != "stability"}
    before = {"base": base_identity(tiny.base(mirror, "v")), "train": train}
    return Stage(job.model_writer(root, tiny.base(mirror, "v"), TRAIN, pairs, labels), 1, before, [pairs, labels])


@pytest.mark.parametrize("stage", [ingested, encoded, painted, trained])
def test_what_a_store_holds_under_the_key_of_before_is_an_answer(
    stage: Callable[[str, Path], Stage], mirror: Path, tmp_path: Path
) -> None:
    of = stage(str(tmp_path), mirror)
    old = store.writer(str(tmp_path), of.today.stage, of.version, of.before, of.inputs)
    assert old.key != of.today.key and of.today.finished() is None
    made = old.commit([old.write_bytes("file", b"made before")])
    assert of.today.finished() == made
    ours = of.today.commit([of.today.write_bytes("file", b"made since")])
    assert of.today.finished() == ours, "the key of today comes first"


def test_the_key_of_a_model_holds_what_decides_it(mirror: Path, tmp_path: Path) -> None:
    pairs = latents(str(tmp_path), mirror)
    labels = tiny.label(str(tmp_path), tiny.ingest(str(tmp_path)))

    def key(**changes: Any) -> str:
        config = replace(TRAIN, **changes)
        return job.model_writer(str(tmp_path), tiny.base(mirror, "v"), config, pairs, labels).key

    undecided = {
        "checkpoint_every": 1,
        "keep_checkpoints": 9,
        "milestones": (1, 2),
        "max_skipped_steps": 0,
        "sample_every": 3,
    }
    assert {key(**{name: value}) for name, value in undecided.items()} == {key()}
    decided = [{"steps": 3}, {"seed": 1}, {"stability": "authors"}, {"margin_offset": "logits"}, {"compile": True}]
    assert len({key(), *(key(**change) for change in decided)}) == 6


def test_images_at_once_are_in_the_key_of_images_whatever_the_setting_is(mirror: Path, tmp_path: Path) -> None:
    """On CUDA they are the setting, which may be at its default; on the CPU they follow from the resolution."""

    def key(device: str, size: int) -> str:
        config = replace(IMAGES, batch_size=size)
        return generate.open_painting(str(tmp_path), None, tiny.base(mirror, "v"), PROMPTS, config, device).writer.key

    assert key("cpu", 8) == key("cpu", 16) == key("cuda:0", 16) != key("cuda:0", 8)
