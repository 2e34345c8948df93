"""Agreement of scorers with people and with each other, over the pairs of an ingest."""

from __future__ import annotations

import json
import time
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from pipeline_lib import agreement as library
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.reports import label, percent
from tasks.outcome import Outcome, finish
from tasks.settings import IO_TASK


@task(name="agreement", **IO_TASK)
def agreement(store: str, pairs: str, scores: dict[str, str]) -> Outcome:
    """Compare scorers; `scores` maps their names to their datasets' URIs."""
    started = time.time()
    opened = {name: open_dataset(uri) for name, uri in scores.items()}
    dataset = library.agreement(store, open_dataset(pairs), opened)
    create_table_artifact(
        headline(dataset), key="scorer-agreement", description="accuracy against human labels, 95% intervals"
    )
    # No link: from the servers' pages browsers open no files, and nobody serves the store.
    create_markdown_artifact(f"Report: `{dataset.uri}/report.html`", key="agreement-report")
    return finish("agreement", dataset, started)


def headline(dataset: Dataset) -> list[dict[str, Any]]:
    """Rows for a table artifact: accuracy, ties and missing pairs by scorer, kappa with each other annotator."""
    with dataset.open("report.json") as file:
        report = json.load(file)
    rows = []
    for name, row in report["accuracy"].items():
        share = "none" if row["accuracy"] is None else percent(row["accuracy"])
        kappas = {
            f"kappa, {label(other)}": "none" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
            for key, pair in report["agreement"].items()
            if name in key.split("|")
            for other in key.split("|")
            if other != name
        }
        interval = f"{percent(row['low'])} to {percent(row['high'])}"
        counts = {"pairs": row["n"], "ties": row["ties"], "missing": row["missing"]}
        rows.append({"scorer": label(name), "accuracy": share, "interval": interval, **counts, **kappas})
    return rows
