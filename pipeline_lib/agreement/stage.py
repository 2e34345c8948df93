"""The stage "agreement": an ingest and the scores of any number of scorers -> a page, its numbers, and a table.

`report.html`, `report.json`, and the table "" with one row per pair: pair_id, prompt_id, image_0, image_1, human (the
pairs' label_0), one float32 column per scorer with score(image_0) - score(image_1) (null where either has no score),
and `dispute` (see `measures.dispute`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from pipeline_lib.agreement.disputes import disputes_of
from pipeline_lib.agreement.distributions import distribution
from pipeline_lib.agreement.measures import agreement_of, dispute
from pipeline_lib.agreement.report import DEFINITIONS, render
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.labels.table import check_scores, pair_table, preferences

STAGE = "agreement"
VERSION = 1
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
SHARD_ROWS = 500_000


def agreement(store: str, pairs: Dataset, scores: Mapping[str, Dataset]) -> Dataset:
    """Compare scorers with people and with each other.

    Args:
        store: root of the dataset store.
        pairs: dataset of the stage "ingest".
        scores: name -> dataset of its scores, run here or imported.

    Raises:
        ConfigError: no scores.
        LabelError: a score table is empty, has two scores for one image and prompt, or is of other pictures.
    """
    if not scores:
        raise ConfigError("There are no scores to compare.", "Give the score datasets of one or more scorers.")
    check_scores(pairs, scores)
    columns = column_names(scores)
    w = writer(store, STAGE, VERSION, {"scorers": columns}, [pairs, *scores.values()], modules=[__name__])
    if finished := w.finished():
        return finished
    frame = pair_table(pairs, scores)
    known = preferences(frame, list(scores))
    disputes = dispute(known, list(scores))
    about = {
        "source": pairs.config.get("source"),
        "split": pairs.config.get("split"),
        **agreement_of(frame, list(scores)),
        "disputed": int((disputes > 0).sum()),
        "distributions": {name: distribution(dataset) for name, dataset in scores.items()},
        "definitions": DEFINITIONS,
        "scorers": {
            name: {"column": columns[name], **_identity(dataset), "uri": dataset.path(), "digest": dataset.digest}
            for name, dataset in scores.items()
        },
        "pairs_dataset": {"uri": pairs.path(), "digest": pairs.digest},
    }
    table = frame.select(
        "pair_id",
        "prompt_id",
        "image_0",
        "image_1",
        pl.col("human").cast(pl.Float32),
        *(pl.col(f"d_{name}").cast(pl.Float32).alias(column) for name, column in columns.items()),
        pl.Series("dispute", disputes.astype(np.float32)),
    )
    shards = [
        w.write_table(f"part-{part:05d}.parquet", chunk.to_arrow(), {"pairs": len(chunk)})
        for part, chunk in enumerate(table.iter_slices(SHARD_ROWS))
    ]
    page = render(about, disputes_of(pairs, frame, known, list(scores), disputes))
    shards.append(w.write_bytes(REPORT_JSON, json.dumps(about, indent=1, allow_nan=False).encode()))
    shards.append(w.write_bytes(REPORT_HTML, page.encode()))
    return w.commit(shards)


def column_names(scores: Mapping[str, Dataset]) -> dict[str, str]:
    """Scorer -> its column: `Located.column` as the dataset records it, or the name where two would have the same."""
    columns = {name: str(dataset.config.get("column", name)) for name, dataset in scores.items()}
    times = Counter(columns.values())
    return {name: column if times[column] == 1 else name for name, column in columns.items()}


def _identity(dataset: Dataset) -> dict[str, Any]:
    """What the score dataset says about its scorer, as far as a reader can use it."""
    wanted = ("kind", "direction", "file", "sha256", "version", "preprocess", "weights", "dtype")
    return {key: dataset.config[key] for key in wanted if key in dataset.config}
