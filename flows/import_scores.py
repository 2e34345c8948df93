"""`import-scores`: a file of published scores to the datasets that scorers run here would write."""

from __future__ import annotations

from prefect import flow

from flows.ingest import ingest
from pipeline_lib.chain.given import check_given
from pipeline_lib.core.code import recomputing
from pipeline_lib.presets import PresetName
from tasks.fields import Count, FileLocation, Location, Names, SourceLocation, Text
from tasks.import_scores import import_scores as import_scores_task
from tasks.outcome import Outcome
from tasks.run_names import flow_run_name
from tasks.settings import store_url


@flow(name="import-scores", flow_run_name=flow_run_name)
def import_scores(
    file: FileLocation,
    scorers: Names | None = None,
    lower_is_better: Names | None = None,
    preset: PresetName = "shapes",
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    pairs: Location | None = None,
    store: Location | None = None,
    force: bool = False,
) -> dict[str, Outcome]:
    """Import scores that others published; rows that do not fit the pairs go to quarantine with their reason.

    Args:
        file: Parquet, JSON, JSON lines, .csv or .tsv, a path or on S3: image_uid, prompt or prompt_id, score, scorer.
        scorers: Names in the file's column scorer, empty for all; without that column, the name its scores get.
        lower_is_better: Those of them whose lower scores are better; they are stored negated.
        preset: Settings to start from; empty fields below take its values.
        source: Source of pairs, when `pairs` is empty.
        split: Split to read, when `pairs` is empty.
        limit: At most this many source rows, when `pairs` is empty.
        pairs: URI of an ingest dataset; empty runs ingest.
        store: Dataset store; empty for the machine's default.
        force: Make again what other code made; the log says so where it is used. What is there stays.
    """
    check_given(file=file, pairs=pairs)
    with recomputing(force):
        pairs = pairs or ingest(preset, source, split, limit, store=store).uri
        return import_scores_task(store_url(store), pairs, file, scorers, lower_is_better or [])
