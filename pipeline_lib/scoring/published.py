"""Scores from elsewhere: a file of published scores becomes the dataset that a scorer run here would have written.

The file (score_files.py) is Parquet, JSON, JSON lines, .csv or .tsv, with the columns

    image_uid              as in the pairs
    prompt or prompt_id    absent, or null in all rows of a scorer, where it looks at the image alone; where a row has
                           both, its prompt counts, as the id may be of the file's own kind
    score                  a number
    scorer                 optional: one file may hold the scores of several

Only what the pairs ask for is kept; every other row goes to the table "quarantine" with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

import polars as pl

from pipeline_lib.core.digest import canonical_json
from pipeline_lib.core.errors import ConfigError, SourceError
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.core.schemas import QUARANTINE, SCORES
from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.scoring.score_files import ScoreFile, read_scores
from pipeline_lib.scoring.stage import METADATA_KEY

VERSION = 1
KIND = "published"
SHARD_ROWS = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEYS = ["image_uid", "prompt_id"]


class Reason(StrEnum):
    """Why a row is rejected, in the order of the checks."""

    MISSING_UID = "missing_uid"
    MISSING_PROMPT = "missing_prompt"
    NON_FINITE_SCORE = "non_finite_score"
    """NaN, infinite (also once it is float32), missing, or not a number."""
    UNKNOWN_IMAGE = "unknown_image"
    """No pair shows the image."""
    UNKNOWN_PROMPT = "unknown_prompt"
    """No pair has the prompt."""
    NOT_ASKED = "not_asked"
    """Pairs have the image and the prompt, but no pair has both."""
    CONFLICTING_SCORES = "conflicting_scores"
    """The file has another score for the same image and prompt; none of them is taken."""


def import_scores(
    store: str,
    ingested: Dataset,
    file: str,
    scorers: Sequence[str] | None = None,
    lower_is_better: Sequence[str] = (),
) -> dict[str, Dataset]:
    """Datasets `scores-<scorer>` of published scores; one that is there already is returned at once.

    Args:
        store: root of the dataset store.
        ingested: dataset of the stage "ingest" whose pairs the scores are for.
        file: path or URL of S3.
        scorers: names in the file's column `scorer`, all when empty; for a file without that column the one name to
            give its scores.
        lower_is_better: those of them whose lower scores are better; they are stored negated, so that higher is
            better in every score dataset.

    Returns:
        Scorer -> dataset: schemas.SCORES with at most one row per image and prompt that the pairs ask for, and
        "quarantine". Its counts say how many are `missing` and how many rows only `repeated` another.

    Raises:
        SourceError: the file cannot be read, or no row of it fits the pairs.
        SchemaError: it lacks a column, or has it with another type.
        ConfigError, UnknownNameError: names that the file does not have, or that cannot name a dataset.
    """
    read = read_scores(file)
    names = _names(read, scorers, lower_is_better)
    several = read.rows["scorer"].null_count() < len(read.rows)
    found = {}
    for name in names:
        rows = read.rows.filter(pl.col("scorer") == name) if several else read.rows
        direction = "lower" if name in lower_is_better else "higher"
        found[name] = _import(store, ingested, read, name, direction, rows)
    return found


def _names(read: ScoreFile, scorers: Sequence[str] | None, lower_is_better: Sequence[str]) -> list[str]:
    known = read.scorers()
    names = list(dict.fromkeys(scorers or known))
    if not known and len(names) != 1:
        raise ConfigError(
            f"{read.name} has no column scorer, and {len(names)} names were given for its scores.",
            "Give the one name that its scores are to have.",
        )
    for name in names if known else []:
        if name not in known:
            raise unknown_name("scorer", name, known)
    for name in lower_is_better:
        if name not in names:
            raise unknown_name("scorer", name, names)
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot name a dataset.", "Use letters, digits, dots, hyphens and underscores only."
            )
    return names


def _asked(ingested: Dataset, by_prompt: bool) -> pl.DataFrame:
    """Distinct (image_uid, prompt_id) of the pairs, sorted; prompt_id null for scorers of images alone."""
    pairs = ingested.scan("pairs")
    prompt = pl.col("prompt_id") if by_prompt else pl.lit(None, pl.String).alias("prompt_id")
    sides = [pairs.select(pl.col(side).alias("image_uid"), prompt) for side in ("image_0", "image_1")]
    return pl.concat(sides).unique().sort(_KEYS).collect()


def _import(
    store: str,
    ingested: Dataset,
    read: ScoreFile,
    name: str,
    direction: str,
    rows: pl.DataFrame,
) -> Dataset:
    identity = {
        "scorer": name,
        "column": name,
        "version": VERSION,
        "kind": KIND,
        "direction": direction,
        "file": read.name,
        "sha256": read.sha256,
    }
    w = writer(store, f"scores-{name}", VERSION, identity, [ingested], modules=[__name__])
    if finished := w.finished():
        return finished
    if direction == "lower":
        rows = rows.with_columns(-pl.col("score"))
    by_prompt = rows["prompt_id"].null_count() < len(rows)
    asked = _asked(ingested, by_prompt)
    judged = _judge(rows, asked, by_prompt)
    taken = judged.filter(pl.col("reason").is_null())
    kept = taken.unique(_KEYS, keep="first", maintain_order=True).sort(_KEYS, nulls_last=True)
    if kept.is_empty():
        why = ", ".join(f"{reason} {count}" for reason, count in judged["reason"].value_counts(sort=True).iter_rows())
        raise SourceError(
            f"None of the {len(rows)} rows of {name} in {read.name} fits the pairs of {ingested.path()}"
            f"{f': {why}' if why else ''}.",
            "Give the scores of these pairs: image uids and prompts as the source of the pairs has them.",
        )
    refused = judged.filter(pl.col("reason").is_not_null()).select(
        pl.format("{}, row {}", pl.lit(read.name), "row").alias("locator"), "reason", "detail"
    )
    schema = SCORES.with_metadata({METADATA_KEY: canonical_json(identity).encode()})
    shards = [
        w.write_table(
            f"part-{part:05d}.parquet", chunk.select(SCORES.names).to_arrow().cast(schema), {"scored": len(chunk)}
        )
        for part, chunk in enumerate(kept.iter_slices(SHARD_ROWS))
    ]
    reasons = dict(refused["reason"].value_counts().iter_rows())
    shards.append(w.write_table("quarantine/part-00000.parquet", refused.to_arrow().cast(QUARANTINE), reasons))
    return w.commit(shards, {"missing": len(asked) - len(kept), "repeated": len(taken) - len(kept)})


def _judge(rows: pl.DataFrame, asked: pl.DataFrame, by_prompt: bool) -> pl.DataFrame:
    """The rows with `reason` (null where the row is taken) and `detail`."""

    def known(keys: list[str], flag: str) -> pl.DataFrame:
        return asked.select(keys).unique().with_columns(pl.lit(True).alias(flag))

    score = pl.col("score").cast(pl.Float32)
    rows = rows.join(known(["image_uid"], "has_image"), "image_uid", how="left", maintain_order="left")
    rows = rows.join(known(["prompt_id"], "has_prompt"), "prompt_id", how="left", maintain_order="left")
    rows = rows.join(known(_KEYS, "has_both"), _KEYS, how="left", maintain_order="left", nulls_equal=True)
    # Compared as they would be stored; a value that is no number conflicts with nothing.
    differing = score.filter(score.is_finite()).n_unique().over(_KEYS) > 1
    both = pl.format("image {}, prompt {}", pl.col("image_uid").fill_null(""), pl.col("prompt_id").fill_null("none"))
    checks = [
        (pl.col("image_uid").fill_null("") == "", Reason.MISSING_UID, pl.lit("no image_uid")),
        (pl.col("prompt_id").is_null() & pl.lit(by_prompt), Reason.MISSING_PROMPT, pl.lit("no prompt")),
        (~score.is_finite().fill_null(False), Reason.NON_FINITE_SCORE, pl.col("score").cast(pl.String)),
        (pl.col("has_image").is_null(), Reason.UNKNOWN_IMAGE, pl.col("image_uid")),
        (pl.col("has_prompt").is_null() & pl.lit(by_prompt), Reason.UNKNOWN_PROMPT, pl.col("prompt_id")),
        (pl.col("has_both").is_null(), Reason.NOT_ASKED, both),
        (differing, Reason.CONFLICTING_SCORES, pl.format("{}: {}", both, pl.col("score"))),
    ]
    reason, detail = pl.lit(None, pl.String), pl.lit(None, pl.String)
    for failed, name, words in reversed(checks):
        reason = pl.when(failed).then(pl.lit(name.value)).otherwise(reason)
        detail = pl.when(failed).then(words.fill_null("null")).otherwise(detail)
    return rows.with_columns(score, reason.alias("reason"), detail.alias("detail"))
