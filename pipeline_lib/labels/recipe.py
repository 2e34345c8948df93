"""Stage "label": runs a recipe over pairs and scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from pipeline_lib import schemas
from pipeline_lib.errors import LabelError
from pipeline_lib.labels import dedpo, flips, votes
from pipeline_lib.labels.recipes import named
from pipeline_lib.labels.steps import (
    Aggregate,
    Dedpo,
    Filter,
    Flip,
    Mix,
    PseudoLabel,
    Reveal,
    Single,
    Step,
    Vote,
    parse,
)
from pipeline_lib.labels.table import pair_table, scored
from pipeline_lib.store import Dataset, writer

VERSION = 1
SHARD_ROWS = 1_000_000

Recipe = str | Sequence[Any]
Progress = Callable[[int, int], None]


def steps_of(recipe: Recipe) -> list[Step]:
    """The steps of a recipe given by name or as a list; raises UnknownNameError or LabelError."""
    return parse(named(recipe) if isinstance(recipe, str) else recipe)


def required_scorers(recipe: Recipe) -> list[str]:
    """The scorers a recipe reads, in the order it names them."""
    return list(dict.fromkeys(scorer for step in steps_of(recipe) for scorer in step.scorers()))


def build_labels(
    store: str,
    recipe: Recipe,
    pairs: Dataset,
    scores: Mapping[str, Dataset],
    progress: Progress | None = None,
) -> Dataset:
    """The label dataset of a recipe (schema LABELS plus int8 `vote_<voter>`), in the order of the pairs.

    Counts in the manifest: `pairs` read; `dropped:<n>.<step>:<reason>` for each step (n = 0: a scorer the recipe needs
    gave one of the pair's images no finite score); `kept`, and of those `human`, `flipped` and `tied`.

    Args:
        store: folder or URL.
        recipe: a name of `recipes.RECIPES`, or a list of steps.
        pairs: a finished ingest.
        scores: score datasets by scorer; those the recipe does not need are neither read nor part of the key.
        progress: called with (steps done, steps).

    Raises:
        UnknownNameError, LabelError: the recipe is not valid, a scorer has no dataset, or no pair is left.
    """
    steps = steps_of(recipe)
    scorers = required_scorers(recipe)
    if missing := [scorer for scorer in scorers if scorer not in scores]:
        raise LabelError(
            f"The recipe needs scores by {', '.join(missing)}; given: {', '.join(sorted(scores)) or 'none'}.",
            "Run the score stage for them, or take them out of the recipe.",
        )
    used = {scorer: scores[scorer] for scorer in sorted(scorers)}
    config = {"recipe": [step.plain() for step in steps], "scorers": list(used)}
    w = writer(store, "labels", VERSION, config, [pairs, *used.values()])
    if done := w.finished():
        return done
    frame = pair_table(pairs, used)
    labels, counts = apply(frame, steps, scorers, progress)
    shards = []
    for i, start in enumerate(range(0, len(labels), SHARD_ROWS)):
        path = f"part-{i:05d}.parquet"
        part = labels.slice(start, SHARD_ROWS).to_arrow()
        shards.append(w.existing(path) or w.write_table(path, schemas.conform(part, schemas.LABELS, path)))
    return w.commit(shards, counts)


def apply(
    frame: pl.DataFrame, steps: Sequence[Step], scorers: Sequence[str], progress: Progress | None = None
) -> tuple[pl.DataFrame, Counter[str]]:
    """(label columns, counts) of steps over a table of `table.pair_table`.

    Raises:
        LabelError: nothing is left after a step, or a step cannot work on these pairs.
    """
    counts: Counter[str] = Counter(pairs=len(frame))
    if not len(frame):
        raise LabelError("There are no pairs to label.", "Check the ingest's counts and quarantine.")
    frame, dropped = scored(frame, scorers)
    counts.update({f"dropped:0.scores:{reason}": n for reason, n in dropped.items() if n})
    frame = frame.with_columns(
        pl.lit(None, pl.Float32).alias("target"),
        pl.lit(False).alias("is_human"),
        pl.lit(None, pl.Float32).alias("g_hat"),
        pl.lit(None, pl.Int32).alias("vote_sum"),
        pl.lit(False).alias("flipped"),
        pl.lit(1.0, pl.Float32).alias("weight"),
        pl.lit("").alias("source"),
    )
    for i, step in enumerate(steps, start=1):
        if len(frame):
            frame, dropped = _run(frame, step)
            counts.update({f"dropped:{i}.{step.name}:{reason}": n for reason, n in dropped.items() if n})
        if not len(frame):
            lost = ", ".join(f"{reason.removeprefix('dropped:')} {n}" for reason, n in counts.items() if ":" in reason)
            raise LabelError(
                f"No pair is left of {counts['pairs']} (dropped: {lost}).",
                "Check the recipe, and that scores and pairs match.",
            )
        if progress:
            progress(i, len(steps))
    counts.update(
        kept=len(frame),
        human=int(frame["is_human"].sum()),
        flipped=int(frame["flipped"].sum()),
        tied=int((frame["target"] == 0.5).sum()),
    )
    extra = [name for name in frame.columns if name.startswith("vote_") and name != "vote_sum"]
    return frame.select(*schemas.LABELS.names, *extra), counts


def _run(frame: pl.DataFrame, step: Step) -> tuple[pl.DataFrame, dict[str, int]]:
    match step:
        case Filter():
            return _filter(frame, step)
        case Single():
            return votes.single(frame, step)
        case Vote():
            return votes.vote(frame, step)
        case Aggregate():
            return votes.aggregate(frame, step)
        case Reveal():
            return dedpo.reveal(frame, step)
        case PseudoLabel():
            return dedpo.pseudo_label(frame, step)
        case Dedpo():
            return dedpo.dedpo(frame)
        case Mix():
            return dedpo.mix(frame)
        case Flip():
            return flips.flip(frame, step)
        case _:
            raise LabelError(f"Step {step.name!r} cannot be run.", "Use a step of labels/steps.py.")


def _filter(frame: pl.DataFrame, step: Filter) -> tuple[pl.DataFrame, dict[str, int]]:
    conditions = {"ties": (pl.col("human") == 0.5).fill_null(False), "unlabelled": pl.col("human").is_null()}
    dropped = {}
    for reason in step.drop:
        kept = frame.filter(~conditions[reason])
        dropped[reason] = len(frame) - len(kept)
        frame = kept
    return frame, dropped
