"""`import-scores`: a file of published scores to the datasets that scorers run here would write."""

from __future__ import annotations

from prefect import flow

from flows.ingest import ingest as ingest_flow
from pipeline_lib.chain.given import check_given
from pipeline_lib.core.code import recomputing
from pipeline_lib.presets import PresetName
from tasks.fields import Count, FileLocation, Location, Names, SourceLocation, Text
from tasks.import_scores import import_scores as import_scores_task
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.run_names import flow_run_name
from tasks.settings import store_url
from tasks.values import IngestSettings


@flow(name="import-scores", flow_run_name=flow_run_name)
@described
def import_scores(
    file: FileLocation,
    scorers: Names | None = None,
    lower_is_better: Names | None = None,
    preset: PresetName = "shapes",
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    ingest: IngestSettings | None = None,
    pairs: Location | None = None,
    store: Location | None = None,
    force: bool = False,
) -> dict[str, Outcome]:
    """Import scores that others published; rows that do not fit the pairs go to quarantine with their reason.

    Args:
        file: Parquet, JSON, JSON lines, .csv or .tsv, a path or on S3: image_uid, prompt or prompt_id, score, scorer.
        scorers: Names in the file's column scorer, empty for all; without that column, the name its scores get.
        lower_is_better: Those of them whose lower scores are better; they are stored negated.
    """
    check_given(file=file, pairs=pairs)
    with recomputing(force):
        pairs = pairs or ingest_flow(preset, source, split, limit, ingest=ingest, store=store).uri
        return import_scores_task(store_url(store), pairs, file, scorers, lower_is_better or [])
