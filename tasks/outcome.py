"""What a stage leaves behind in Prefect: its dataset, whether it had to run, how long it took."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from pipeline_lib.core.store import Dataset


@dataclass(frozen=True)
class Outcome:
    """One stage's result, small enough to pass between flows and to show in a table."""

    stage: str
    uri: str
    digest: str
    status: str
    """"ran", or "skipped" when the store already held the answer."""
    seconds: float

    def row(self) -> dict[str, str | float]:
        """A table row."""
        return asdict(self)


def finish(stage: str, dataset: Dataset, started: float) -> Outcome:
    """Log a stage's dataset and publish it as an artifact `<stage>-dataset`; `started` is the stage's Unix time."""
    seconds = time.time() - started
    status = "skipped" if dataset.created < started else "ran"
    logger = get_run_logger()
    counts = ", ".join(f"{name} {count}" for name, count in dataset.counts.items())
    if status == "skipped":
        logger.info("%s: skipped, the store already holds %s (%s)", stage, dataset.path(), counts)
    else:
        logger.info("%s: wrote %s in %.1f s (%s)", stage, dataset.path(), seconds, counts)
    key = re.sub(r"[^a-z0-9]+", "-", f"{stage}-dataset".lower())  # all that Prefect allows: hpsv2.0 becomes hpsv2-0
    create_markdown_artifact(_markdown(dataset, status, seconds), key=key, description=f"{stage}: {status}")
    return Outcome(stage, dataset.uri, dataset.digest, status, round(seconds, 3))


def _markdown(dataset: Dataset, status: str, seconds: float) -> str:
    lines = [
        f"## {dataset.stage} ({status}, {seconds:.1f} s)",
        f"`{dataset.uri}`",
        "",
        f"digest `{dataset.digest}`, {len(dataset.shards)} files, {sum(s.bytes for s in dataset.shards) / 1e6:.1f} MB",
        "",
        "| count | rows |",
        "|---|---:|",
        *(f"| {name} | {count} |" for name, count in dataset.counts.items()),
    ]
    if dataset.inputs:
        lines += [
            "",
            "| input | digest |",
            "|---|---|",
            *(f"| `{i['uri']}` | `{i['digest'][:16]}` |" for i in dataset.inputs),
        ]
    return "\n".join(lines)
