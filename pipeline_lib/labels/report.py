"""The report of a label dataset: report.json, and one self-contained HTML page made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from pipeline_lib import reports
from pipeline_lib.core.store import Dataset, DatasetWriter, Shard
from pipeline_lib.data.sources import known_truth
from pipeline_lib.labels.disputes import disputes_of
from pipeline_lib.labels.explain import explain
from pipeline_lib.labels.measures import BINS, HIDDEN, measure, waterfall
from pipeline_lib.labels.parse import STEPS
from pipeline_lib.labels.steps import TARGET, Step
from pipeline_lib.reports import Bin, Whisker, count, label, number, percent
from pipeline_lib.reports.disputes import Dispute

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
NAMES = {"label": "Label", "g_hat": "g_hat", HIDDEN: "Human, hidden from the recipe"}
DEFINITIONS = {
    "agreement": "share of the pairs that label and annotator both decide on which they prefer the same image; ties, "
    "equal scores and missing labels are left out",
    "interval": "95% Wilson interval over pairs, which takes the pairs of one prompt as independent",
    "Fleiss' kappa": "agreement of all annotators beyond chance over the pairs that each of them decides: 0 is "
    "chance, 1 always the same",
    "calibration": "pairs with a human decision, hidden ones too, in ten bins by the predicted probability that the "
    "left image wins; on the diagonal people decide as predicted",
    "Brier score": "mean squared difference of that probability and the decision: 0 is perfect, 0.25 a coin's",
    "dispute": "sum of the margins on the side of the pair that has less of it; a margin is a score difference in "
    "units of the scorer's root mean square, and 1 for a person's decision",
}


def write_report(
    w: DatasetWriter,
    steps: Sequence[Step],
    counts: Mapping[str, int],
    pairs: Dataset,
    frame: pl.DataFrame,
    labels: pl.DataFrame,
) -> list[Shard]:
    """Publish `report.json` and `report.html`.

    Args:
        steps, counts: the recipe, and what the manifest will count.
        pairs: the ingest, for prompts, images and what its source knows of the truth.
        frame: `table.pair_table` of the pairs kept, in the order of `labels`.
        labels: the rows of the label dataset.
    """
    scorers = [name.removeprefix("d_") for name in frame.columns if name.startswith("d_")]
    report = {
        "recipe": [step.plain() for step in steps],
        "words": explain([step.plain() for step in steps]).splitlines(),
        "source": pairs.config.get("source"),
        "split": pairs.config.get("split"),
        "counts": dict(sorted(counts.items())),
        "waterfall": waterfall(steps, counts),
        **measure(frame, labels, scorers, known_truth(str(pairs.config.get("source")))),
        "definitions": DEFINITIONS,
        "inputs": list(w.inputs),
    }
    page = render(report, disputes_of(pairs, frame, labels, scorers))
    return [
        w.write_bytes(REPORT_JSON, json.dumps(report, indent=1, allow_nan=False).encode()),
        w.write_bytes(REPORT_HTML, page.encode()),
    ]


def render(report: Mapping[str, Any], disputes: Sequence[Dispute]) -> str:
    """The page; `report` is the content of report.json, `disputes` come most disputed first."""
    return reports.render(
        __package__,
        "labels.html.j2",
        report=report,
        method=_who(report["recipe"]),
        waterfall=_waterfall(report),
        spread=_spread(report["labels"]),
        vote_sums=_vote_sums(report["vote_sums"]),
        agreement=_whiskers(report["agreement"], "Agreement of the label with each annotator", "agreement"),
        agreements=[_row(name, entry) for name, entry in report["agreement"].items()],
        truth=_whiskers(report["truth"] or {}, "Accuracy of each label source against the known truth", "truth"),
        truths=[_row(name, entry) for name, entry in (report["truth"] or {}).items()],
        calibration=_calibration(report["calibration"]),
        disputes=disputes,
        names=NAMES,
        definitions_of=[(term[0].upper() + term[1:], words) for term, words in DEFINITIONS.items()],
    )


def _who(recipe: Sequence[Mapping[str, Any]]) -> str:
    """Who labels: as the step that sets the target says."""
    kind = next(kind for step in recipe for name, kind in STEPS.items() if name in step and TARGET in kind.sets)
    return kind.label or kind.name


def named(name: str) -> str:
    """A label source as people write it."""
    return NAMES.get(name) or label(name)


def _waterfall(report: Mapping[str, Any]) -> Markup:
    steps = [reports.Step(f"{row['step']}: {row['reason']}", -row["dropped"]) for row in report["waterfall"]]
    title = "Pairs kept and dropped by step"
    return reports.waterfall_chart(report["counts"]["pairs"], steps, title, "waterfall", "Pairs", "Labelled")


def _spread(labels: Mapping[str, Any]) -> Markup:
    edges = [i / BINS for i in range(BINS + 1)]
    return reports.histogram_chart(
        edges, labels["soft"], "Target: probability that the left image wins", "targets", 0.5
    )


def _vote_sums(sums: Sequence[tuple[float, int]]) -> Markup | None:
    """A bar for each sum: sums are few and evenly spaced, or, with odd weights, merged into steps of one."""
    if not sums:
        return None
    reach = max(1, round(max(abs(value) for value, _ in sums)))
    bars = [0] * (2 * reach + 1)
    for value, n in sums:
        bars[min(max(round(value), -reach), reach) + reach] += n
    edges = [i - reach - 0.5 for i in range(2 * reach + 2)]
    return reports.histogram_chart(edges, bars, "Sums of votes, above zero for the left image", "votes", 0.0)


def _whiskers(entries: Mapping[str, Any], title: str, identifier: str) -> Markup | None:
    rows = [
        Whisker(named(name), entry["rate"], entry["low"], entry["high"], strong=name == "label")
        for name, entry in entries.items()
        if entry["n"]
    ]
    return reports.whisker_chart(rows, f"{title}, with 95% intervals", identifier) if rows else None


def _row(name: str, entry: Mapping[str, Any]) -> list[str]:
    share = "none" if entry["rate"] is None else percent(entry["rate"])
    interval = f"{percent(entry['low'])} to {percent(entry['high'])}"
    return [named(name), share, interval, f"{count(entry['agree'])} of {count(entry['n'])}"]


def _calibration(bins: Sequence[Mapping[str, Any]]) -> Markup | None:
    drawn = [Bin(b["predicted"], b["observed"], b["low"], b["high"], b["n"]) for b in bins]
    title = "Share that people decided for the left image, by predicted probability"
    return reports.calibration_chart(drawn, title, "calibration") if drawn else None


def summary(report: Mapping[str, Any], where: str) -> str:
    """The report in Markdown, for an artifact: what was kept and dropped, agreement, accuracy."""
    counts, kappa = report["counts"], report["fleiss"]
    lines = [f"**{counts['kept']:,} of {counts['pairs']:,} pairs labelled**", "", *report["words"], ""]
    if report["waterfall"]:
        lines += ["| step | dropped | left |", "|---|---:|---:|"]
        lines += [f"| {r['step']}: {r['reason']} | {r['dropped']:,} | {r['left']:,} |" for r in report["waterfall"]]
    for title, entries in (("agrees with", report["agreement"]), ("against the truth", report["truth"] or {})):
        rows = [_row(name, entry) for name, entry in entries.items()]
        lines += ["", f"| {title} | share | 95% interval | pairs |", "|---|---:|---:|---:|"] if rows else []
        lines += [f"| {' | '.join(row)} |" for row in rows]
    if kappa and kappa["kappa"] is not None:
        lines += ["", f"Fleiss' kappa of {', '.join(map(label, kappa['annotators']))}: {number(kappa['kappa'])}"]
    return "\n".join([*lines, "", f"Page with pictures: `{where}/{REPORT_HTML}`"])
