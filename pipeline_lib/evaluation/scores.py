"""Stage "image-scores": all scorers' verdicts on one model's images, stored once for all comparisons."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline_lib.core import store
from pipeline_lib.core.store import Dataset, DatasetWriter, Shard
from pipeline_lib.evaluation.diversity import DIVERSITY, distances, embedder
from pipeline_lib.evaluation.winrates import TRUE
from pipeline_lib.generation.prompts import PromptSet
from pipeline_lib.generation.stage import Progress
from pipeline_lib.scoring import score_images
from pipeline_lib.scoring.resident import resident_scorers
from pipeline_lib.scoring.scorers import embedding_scorer

STAGE = "image-scores"
VERSION = 1
KEYS = ("prompt_id", "seed")


@dataclass(frozen=True)
class Judging:
    """All scorers' verdicts on one dataset of images, finished or to be given, and what decides them.

    Attributes:
        prompts: what the images were made for.
        identities: scorer -> what decides its scores (`scoring.identities`), in the order of the columns.
    """

    writer: DatasetWriter
    images: Dataset
    prompts: PromptSet
    identities: Mapping[str, Mapping[str, Any]]


def open_judging(
    root: str, images: Dataset, prompts: PromptSet, identities: Mapping[str, Mapping[str, Any]]
) -> Judging:
    """The judging of a dataset of stage "images" that was made for `prompts`; nothing is loaded."""
    question = {"scorers": list(identities.values()), "truth": prompts.name if prompts.truth else None}
    if tower := diversity_tower(identities, images):
        question["diversity"] = tower
    return Judging(
        store.writer(root, STAGE, VERSION, question, [images], modules=[__name__]), images, prompts, identities
    )


def score_generated(judging: Judging, mirror: str, device: str = "auto", progress: Progress | None = None) -> Dataset:
    """Columns prompt_id, seed, one float32 per scorer (its identity's `column`), `true` where it is known, and
    `diversity` where a prompt has more than one image; shards parallel to the images'.

    Args:
        mirror: where the scorers' weights come from.
        progress: called with (images scored, images in all) after each shard.
    """
    total = sum(shard.rows for shard in judging.images.tables())
    if finished := judging.writer.finished():
        if progress:
            progress(total, total)
        return finished
    shards: list[Shard] = []
    for index in range(len(judging.images.tables())):
        shards.append(judge_shard(judging, index, mirror, device))
        if progress:
            progress(sum(s.rows for s in shards), total)
    return judging.writer.commit(shards)


def judge_shard(judging: Judging, index: int, mirror: str, device: str = "auto") -> Shard:
    """Score and publish one shard of images, or find its scores where an earlier run has left them."""
    shard = judging.images.tables()[index]
    if existing := judging.writer.existing(shard.path):
        return existing
    table = judging.images.read(shard)
    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png in table["image"].to_pylist()]
    texts = table["prompt"].to_pylist()
    verdicts = score_images(resident_judges(judging, mirror, device), pictures, texts)
    scores = {judging.identities[name]["column"]: verdicts[name] for name in judging.identities}
    if judging.prompts.truth:
        scores[TRUE] = judging.prompts.truth(pictures, texts)
    if DIVERSITY in verdicts:
        scores[DIVERSITY] = distances(verdicts[DIVERSITY], table["prompt_id"].to_pylist())
    scored = table.select(KEYS)
    for name, values in scores.items():
        scored = scored.append_column(name, pa.array(np.asarray(values, np.float32)))
    return judging.writer.write_table(shard.path, scored)


def resident_judges(judging: Judging, mirror: str, device: str = "auto") -> list[Any]:
    """The scorers on `device`, loaded on the first call, and what gives embeddings where diversity is asked for."""
    from pipeline_lib.scoring.engine import runtime

    scorers = resident_scorers(judging.identities, mirror, str(runtime(device).device))
    tower = diversity_tower(judging.identities, judging.images)
    return [*scorers, *([embedder(scorers[list(judging.identities).index(tower)])] if tower else [])]


def diversity_tower(names: Iterable[str], images: Dataset) -> str | None:
    """The scorer among `names` whose image tower measures diversity; None when prompts have one image each."""
    return embedding_scorer(list(names)) if len(images.config["seeds"]) > 1 else None
