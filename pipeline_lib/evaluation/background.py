"""What lies behind an evaluation: its datasets down to the source's files, its labels, and what scorers are worth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from pipeline_lib.core.lineage import lineage, store_of
from pipeline_lib.core.store import Dataset, absolute
from pipeline_lib.reports import label, percent

REPORT = "report.json"
KEPT = {"labels": ("words", "counts", "agreement", "truth"), "agreement": ("pairs", "ties", "unlabelled", "accuracy")}
"""What is taken over from the reports of these stages."""
SHOWN = 200
"""Source files that the page lists; `report.json` has all."""


def background(root: str, datasets: Iterable[Dataset]) -> dict[str, list[dict[str, Any]]]:
    """Three parts of `report.json`, from the evaluation's inputs.

    Args:
        root: URL of the evaluation's store; pages of datasets in other stores are not linked.

    Returns:
        `lineage`: every dataset with its digest, inputs, settings and size; `labels`: the label datasets among them,
        and `agreement`: the comparisons of scorers with people, with KEPT of their reports. `page` is the path of a
        dataset's HTML page, from the store on, or None.
    """
    found = lineage(datasets)
    here = absolute(root)
    return {
        "lineage": [
            {
                "uri": dataset.path(),
                "digest": dataset.digest,
                "page": _page(dataset, here),
                "inputs": list(dataset.inputs),
                "settings": dict(dataset.config),
                "rows": sum(shard.rows for shard in dataset.shards),
                "files": len(dataset.shards),
                "bytes": sum(shard.bytes for shard in dataset.shards),
            }
            for dataset in found
        ],
        **{
            stage: [
                {"uri": dataset.path(), "page": _page(dataset, here), **_kept(dataset, keys)}
                for dataset in found
                if dataset.stage == stage and any(shard.path == REPORT for shard in dataset.shards)
            ]
            for stage, keys in KEPT.items()
        },
    }


def _page(dataset: Dataset, root: str) -> str | None:
    names = [shard.path for shard in dataset.shards if shard.path.endswith(".html")]
    return f"{dataset.path()}/{names[0]}" if names and store_of(dataset) == root else None


def _kept(dataset: Dataset, keys: Iterable[str]) -> dict[str, Any]:
    with dataset.open(REPORT) as file:
        report = json.load(file)
    return {key: report[key] for key in keys}


def background_content(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the template `background.html.j2` needs beside the report."""
    return {
        "lineage": [_shown(entry) for entry in report["lineage"]],
        "annotators": [_annotators(labels) for labels in report["labels"]],
        "accuracies": [_accuracies(scorers) for scorers in report["agreement"]],
        "shown": SHOWN,
    }


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the lineage with its settings in words, and the files of its source apart from them."""
    settings = {key: value for key, value in entry["settings"].items() if key not in ("files", "others")}
    words = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=1000) if settings else ""
    base = settings.get("base")
    source = settings.get("source") or (base.get("repo") if isinstance(base, dict) else None)
    return {**entry, "words": words, "shards": entry["settings"].get("files", []), "source": source}


def _annotators(labels: Mapping[str, Any]) -> list[list[str]]:
    """Rows of a table: annotator, agreement with the label, and accuracy where the truth is known."""
    truth = labels["truth"] or {}
    return [
        [label(name), _rate(entry), *([_rate(truth[name]) if name in truth else "unknown"] if truth else [])]
        for name, entry in labels["agreement"].items()
    ]


def _accuracies(scorers: Mapping[str, Any]) -> list[list[str]]:
    """Rows of a table: scorer, and its accuracy against people."""
    return [[label(name), _rate({**entry, "rate": entry["accuracy"]})] for name, entry in scorers["accuracy"].items()]


def _rate(entry: Mapping[str, Any]) -> str:
    """A share with its interval, as a label report gives it."""
    if entry["rate"] is None:
        return "none decided"
    return f"{percent(entry['rate'])} ({percent(entry['low'])} to {percent(entry['high'])})"
