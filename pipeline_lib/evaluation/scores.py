"""Stage "image-scores": all scorers' verdicts on one model's images, stored once for all comparisons."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline_lib import store
from pipeline_lib.evaluation.diversity import DIVERSITY, distances, embedder, embedding_scorer
from pipeline_lib.evaluation.generate import Progress
from pipeline_lib.evaluation.prompts import PromptSet
from pipeline_lib.evaluation.winrates import TRUE
from pipeline_lib.scoring import load_scorers, score_images
from pipeline_lib.store import Dataset, DatasetWriter, Shard

STAGE = "image-scores"
VERSION = 1
KEYS = ("prompt_id", "seed")

Judge = Callable[[list[Image.Image], list[str]], Mapping[str, np.ndarray]]
"""Images and their prompts -> scorer -> float32 scores (n,); under DIVERSITY, where asked for, embeddings (n, d)."""


def score_generated(
    root: str,
    images: Dataset,
    prompts: PromptSet,
    identities: Sequence[Mapping[str, Any]],
    judge: Judge,
    *,
    progress: Progress | None = None,
) -> Dataset:
    """Columns prompt_id, seed, one float32 per scorer (its identity's `column`), `true` where it is known, and
    `diversity` where a prompt has more than one image; shards parallel to the images'.

    Args:
        root: the store's URL.
        images: a dataset of stage "images" made for `prompts`.
        identities: what decides the scores (`scoring.Located.identity`), in the order of the columns.
        judge: gives the scores; called only for shards that are not there yet.
        progress: called with (images scored, images in all) after each shard.
    """
    question = {"scorers": list(identities), "truth": prompts.name if prompts.truth else None}
    if tower := diversity_tower([who["scorer"] for who in identities], images):
        question["diversity"] = tower
    writer = store.writer(root, STAGE, VERSION, question, [images])
    total = sum(shard.rows for shard in images.tables())
    if finished := writer.finished():
        if progress:
            progress(total, total)
        return finished
    columns = {who["scorer"]: who["column"] for who in identities}
    shards: list[Shard] = []
    for shard in images.tables():
        shards.append(writer.existing(shard.path) or score_shard(writer, images, shard, prompts, columns, judge))
        if progress:
            progress(sum(s.rows for s in shards), total)
    return writer.commit(shards)


def score_shard(
    writer: DatasetWriter, images: Dataset, shard: Shard, prompts: PromptSet, columns: Mapping[str, str], judge: Judge
) -> Shard:
    """Score and publish one shard of generated images; `columns` names every scorer's column."""
    table = images.read(shard)
    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png in table["image"].to_pylist()]
    texts = table["prompt"].to_pylist()
    scores = {columns.get(name, name): values for name, values in judge(pictures, texts).items()}
    embeddings = scores.pop(DIVERSITY, None)
    if prompts.truth:
        scores[TRUE] = prompts.truth(pictures, texts)
    if embeddings is not None:
        scores[DIVERSITY] = distances(embeddings, table["prompt_id"].to_pylist())
    scored = table.select(KEYS)
    for name, values in scores.items():
        scored = scored.append_column(name, pa.array(np.asarray(values, np.float32)))
    return writer.write_table(shard.path, scored)


def diversity_tower(names: Sequence[str], images: Dataset) -> str | None:
    """The scorer among `names` whose image tower measures diversity; None when prompts have one image each."""
    return embedding_scorer(names) if len(images.config["seeds"]) > 1 else None


def lazy_judge(names: Sequence[str], mirror: str, device: str, tower: str | None = None) -> Judge:
    """All scorers, loaded when the first image needs them; with `tower`, the embeddings of that scorer's as well."""
    loaded: list[Any] = []

    def judge(pictures: list[Image.Image], texts: list[str]) -> Mapping[str, np.ndarray]:
        if not loaded:
            scorers = load_scorers(list(names), mirror, device)
            loaded.extend(scorers)
            if tower:
                loaded.append(embedder(scorers[list(names).index(tower)]))
        return score_images(loaded, pictures, texts)

    return judge
