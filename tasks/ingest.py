"""Ingest stage: source rows to pairs, unique images and quarantine, one task run per unit of work."""

from __future__ import annotations

import time
from dataclasses import replace

from prefect import task
from prefect.artifacts import create_markdown_artifact

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.disk import size_text
from pipeline_lib.core.store import Dataset
from pipeline_lib.data import ingest as library
from tasks.downloads import hub_slot
from tasks.logs import working_on
from tasks.outcome import Outcome, finish
from tasks.runners import log_shard
from tasks.settings import IO_TASK


@task(name="ingest-plan", **IO_TASK)
def plan_ingest(store: str, config: IngestConfig) -> tuple[library.Job, list[library.Unit], Dataset | None]:
    """List the source and check all rows but for their images; the dataset where it is there already."""
    job = library.start(store, config)
    done = job.writer.finished()
    return job, [] if done else library.plan(job), done


@task(name="ingest-unit", task_run_name="ingest-unit-{unit.index}", **IO_TASK)
def ingest_unit(job: library.Job, unit: library.Unit) -> None:
    """Read, check and store one unit's images."""
    started = time.monotonic()
    working_on(job.writer.path())
    with hub_slot(job.source.url):
        library.ingest_images(job, unit)
    log_shard(f"unit {unit.index}: {unit.rows} rows", started)


@task(name="ingest-finish", **IO_TASK)
def finish_ingest(job: library.Job, units: list[library.Unit], done: Dataset | None, started: float) -> Outcome:
    """Write pairs and quarantine, commit, and publish what came of it."""
    dataset = done or library.finish(job, units)
    create_markdown_artifact(summary(dataset), key="ingest-summary", description="ingest: kept, dropped, samples")
    return finish("ingest", dataset, started)


def without_sources(job: library.Job) -> library.Job:
    """The job as a unit's task needs it: without the list of files, which would be copied into every task run."""
    return replace(job, source=replace(job.source, files=(), others={}))


def summary(dataset: Dataset) -> str:
    """Markdown: what was kept, why rows were dropped, which prompts leak, where the page with samples is."""
    counts = dataset.counts
    size = size_text(sum(shard.bytes for shard in dataset.shards))
    lines = [
        f"**{counts['pairs']:,} pairs** of {counts['rows']:,} rows, {counts.get('images', 0):,} unique images, {size}",
        "",
        "| rows | count | share |",
        "|---|---:|---:|",
    ]
    rejected = (name for name in counts if name.startswith("rejected:"))
    kinds = ["ties", "unlabelled", "not-chosen", "other-split", *rejected]
    for name in kinds:
        if name in counts:
            share = counts[name] / max(counts["rows"], 1)
            lines.append(f"| {name.replace('rejected:', 'quarantined: ')} | {counts[name]:,} | {share:.2%} |")
    leaked = [name.removeprefix("leaked-prompts:") for name in counts if name.startswith("leaked-prompts:")]
    for split in leaked:
        prompts, pairs = counts[f"leaked-prompts:{split}"], counts[f"leaked-pairs:{split}"]
        lines += ["", f"{prompts:,} prompts ({pairs:,} pairs) also occur in split `{split}`."]
    if disputed := counts.get("contradicting", 0):
        lines += ["", f"{disputed:,} comparisons were decided both ways, by different people or by the same one."]
    lines += ["", f"Sample pairs: `{dataset.uri}/samples.html`", "", f"Created {time.ctime(dataset.created)}"]
    return "\n".join(lines)
