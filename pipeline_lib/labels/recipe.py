"""Stage "label": runs a recipe over pairs and scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import polars as pl
from polars import selectors as cs

from pipeline_lib.core import schemas
from pipeline_lib.core.errors import LabelError
from pipeline_lib.core.store import Dataset, Shard, writer
from pipeline_lib.labels.parse import at_step, check_scorers
from pipeline_lib.labels.recipes import Recipe, steps_of
from pipeline_lib.labels.report import write_report
from pipeline_lib.labels.steps import Step
from pipeline_lib.labels.table import check_scores, pair_table, scored

VERSION = 2
SHARD_ROWS = 250_000
IDS = ("pair_id", "image_0", "image_1")

Progress = Callable[[int, int], None]


def required_scorers(recipe: Recipe) -> list[str]:
    """The scorers a recipe reads, in the order it names them."""
    return list(dict.fromkeys(scorer for step in steps_of(recipe) for scorer in step.scorers()))


def check_recipe(recipe: Recipe, given: Collection[str], runnable: Collection[str] = ()) -> list[str]:
    """The scorers a recipe reads, after every check that needs no data.

    Args:
        recipe: as for `build_labels`.
        given: scorers whose scores are at hand.
        runnable: scorers whose scores can still be made.

    Raises:
        UnknownNameError, LabelError: the recipe is not valid, or a scorer is in neither; says which step.
    """
    steps = steps_of(recipe)
    check_scorers(steps, given, runnable)
    return required_scorers(steps)


def build_labels(
    store: str,
    recipe: Recipe,
    pairs: Dataset,
    scores: Mapping[str, Dataset],
    progress: Progress | None = None,
) -> Dataset:
    """The label dataset of a recipe (schema LABELS plus int8 `vote_<voter>`), in the order of the pairs, with its
    report (`report.html`, `report.json`).

    Counts in the manifest: `pairs` read; `dropped:<n>.<step>:<reason>` for each step (n = 0: a scorer the recipe needs
    gave one of the pair's images no finite score); `kept`, and of those `human`, `flipped` and `tied`; for DeDPO
    `n_l` (labelled) and `n_u` (the others).

    Args:
        store: folder or URL.
        recipe: the name of a recipe, YAML text, or a list of steps.
        pairs: a finished ingest.
        scores: score datasets by scorer; those the recipe does not need are neither read nor part of the key.
        progress: called with (steps done, steps).

    Raises:
        UnknownNameError, LabelError: the recipe is not valid, a scorer has no dataset, or one that was made of other
            pictures, or no pair is left.
    """
    steps = steps_of(recipe)
    used = {scorer: scores[scorer] for scorer in sorted(check_recipe(steps, scores))}
    check_scores(pairs, used)
    config = {"recipe": [step.plain() for step in steps], "scorers": list(used)}
    key = {**config, "recipe": [step.identity() for step in steps]}
    w = writer(store, "labels", VERSION, config, [pairs, *used.values()], identity=key, modules=[__name__])
    if done := w.finished():
        return done
    columns = dict.fromkeys(column for step in steps for column in step.columns())
    frame = pair_table(pairs, used, list(columns)).with_row_index("row")
    labels, counts = apply(frame, steps, progress)
    judged = frame.select("human", cs.starts_with("d_"))[labels["row"]]
    frame, labels = labels.select("pair_id", "prompt_id", "image_0", "image_1").hstack(judged), labels.drop("row")

    def write(i: int) -> Shard:
        path = f"part-{i:05d}.parquet"
        part = labels.slice(i * SHARD_ROWS, SHARD_ROWS).to_arrow()
        return w.existing(path) or w.write_table(path, schemas.conform(part, schemas.LABELS, path), distinct=IDS)

    with ThreadPoolExecutor(2) as pool:  # compressing rows takes longer than labelling them
        rows = pool.map(write, range(-(-len(labels) // SHARD_ROWS)))
        shards = [*write_report(w, steps, counts, pairs, frame, labels), *rows]
    return w.commit(shards, counts)


def apply(
    frame: pl.DataFrame, steps: Sequence[Step], progress: Progress | None = None
) -> tuple[pl.DataFrame, Counter[str]]:
    """(label columns, counts) of steps over a table of `table.pair_table`; a column `row` of it stays.

    Raises:
        LabelError: nothing is left after a step, or a step cannot work on these pairs.
    """
    counts: Counter[str] = Counter(pairs=len(frame))
    if not len(frame):
        raise LabelError("There are no pairs to label.", "Check the ingest's counts and quarantine.")
    frame, dropped = scored(frame, list(dict.fromkeys(scorer for step in steps for scorer in step.complete())))
    counts.update({f"dropped:0.scores:{reason}": n for reason, n in dropped.items() if n})
    frame = frame.with_columns(
        pl.lit(None, pl.Float32).alias("target"),
        pl.lit(False).alias("is_human"),
        pl.lit(None, pl.Float32).alias("g_hat"),
        pl.lit(None, pl.Float32).alias("vote_sum"),
        pl.lit(False).alias("flipped"),
        pl.lit(1.0, pl.Float32).alias("weight"),
        pl.lit("").alias("source"),
        pl.lit(None, pl.Float32).alias("confidence"),
    )
    for i, step in enumerate(steps, start=1):
        if len(frame):
            try:
                frame, dropped = step.run(frame)
            except LabelError as error:
                raise at_step(i, step, error) from error
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
    if any(step.counts_human for step in steps):
        counts.update(n_l=counts["human"], n_u=counts["kept"] - counts["human"])
    votes = [name for name in frame.columns if name.startswith("vote_") and name != "vote_sum"]
    own = [name for step in steps for name in sorted(step.sets) if name not in (*schemas.LABELS.names, *votes)]
    row = [name for name in frame.columns if name == "row"]
    return frame.select(*schemas.LABELS.names, *votes, *own, *row), counts
