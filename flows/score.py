"""`score`: every unique image of the pairs by every reward model, once."""

from __future__ import annotations

from prefect import flow

from flows.ingest import ingest
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.outcome import Outcome
from tasks.score import score as score_task
from tasks.settings import store_url


@flow(name="score")
def score(
    preset: PresetName = "shapes",
    source: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    scorers: list[str] | None = None,
    weights: str | None = None,
    pairs: str | None = None,
    store: str | None = None,
) -> dict[str, Outcome]:
    """Score images with reward models; each scorer's table is a dataset of its own.

    Args:
        preset: Settings to start from; empty fields below take its values.
        source: Source of pairs, when `pairs` is empty.
        split: Split to read, when `pairs` is empty.
        limit: At most this many source rows, when `pairs` is empty.
        scorers: Reward models to run: clip, pickscore, hpsv2, aesthetic, imagereward.
        weights: Where checkpoints come from: "hub", or a directory laid out like the hub.
        pairs: URI of an ingest dataset; empty runs ingest.
        store: Dataset store; empty for the machine's default.
    """
    chosen = find_preset(preset)
    pairs = pairs or ingest(preset, source, split, limit, store=store).uri
    return score_task(store_url(store), pairs, scorers or list(chosen.scorers), weights or chosen.weights)
