"""The agreement of scorers as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline_lib.labels.steps import HUMAN
from pipeline_lib.reports import (
    Whisker,
    count,
    histogram_chart,
    label,
    matrix_table,
    number,
    percent,
    whisker_chart,
)
from pipeline_lib.reports import render as render_page
from pipeline_lib.reports.disputes import Dispute

DEFINITIONS = {
    "accuracy": "share of the decided human labels that the scorer's preference equals; pairs with equal scores, a "
    "missing score, a human tie or no label are left out",
    "interval": "95% Wilson interval over pairs, which takes the pairs of one prompt as independent",
    "kappa": "Cohen's kappa of two annotators' preferences over the pairs both decide: 0 is chance, 1 always the same",
    "rank correlation": "Spearman's rho of two scorers' differences score(image_0) - score(image_1), human labels as "
    "0.5, 0 and -0.5, over the pairs both know, every pair in both orders, so that it does not depend on which image "
    "comes first",
    "conviction": "share of the scorer's pairs with a smaller difference",
    "dispute": "sum of the scorers' convictions on the side of the pair that has less of it",
}


def render(report: Mapping[str, Any], disputes: Sequence[Dispute]) -> str:
    """The page; `report` is the content of report.json, `disputes` come most disputed first."""
    scorers = list(report["scorers"])
    best = sorted(scorers, key=lambda name: -(report["accuracy"][name]["accuracy"] or 0))
    return render_page(
        __package__,
        "agreement.html.j2",
        report=report,
        scorers=scorers,
        accuracy=_accuracy_chart(report, best),
        numbers=[_accuracy_row(name, report["accuracy"][name]) for name in best],
        matrices=_matrices(report),
        histograms=[_histogram(name, report["distributions"][name], place) for place, name in enumerate(scorers)],
        disputes=disputes,
        definitions_of=[(term.capitalize(), words) for term, words in DEFINITIONS.items()],
    )


def _accuracy_chart(report: Mapping[str, Any], names: Sequence[str]) -> Markup | None:
    decided = [(name, row) for name in names if (row := report["accuracy"][name])["n"]]
    rows = [Whisker(label(name), row["accuracy"], row["low"], row["high"]) for name, row in decided]
    title = "Accuracy against human labels by scorer, with 95% intervals"
    return whisker_chart(rows, title, "accuracy") if rows else None


def _accuracy_row(name: str, row: Mapping[str, Any]) -> list[str]:
    share = "none" if row["accuracy"] is None else percent(row["accuracy"])
    interval = f"{percent(row['low'])} to {percent(row['high'])}"
    agree = f"{count(row['agree'])} of {count(row['n'])}"
    return [label(name), share, interval, agree, count(row["ties"]), count(row["missing"])]


def _matrices(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Kappa and rank correlation of every two annotators, as shaded tables."""
    names = [HUMAN, *report["scorers"]]
    captions = {
        "kappa": "Cohen's kappa: 0 is chance, 1 is always the same preference.",
        "spearman": "Spearman's rank correlation of score differences.",
    }
    matrices = []
    for key, caption in captions.items():
        values = [[_entry(report, a, b, key) for b in names] for a in names]
        cells = [["" if value is None else _coefficient(value) for value in row] for row in values]
        shown = [label(name) for name in names]
        matrices.append({"caption": caption, "table": matrix_table(shown, shown, cells, values, caption)})
    return matrices


def _entry(report: Mapping[str, Any], a: str, b: str, key: str) -> float | None:
    pair = report["agreement"].get(f"{a}|{b}") or report["agreement"].get(f"{b}|{a}")
    return pair[key] if pair else None


def _coefficient(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _histogram(name: str, spread: Mapping[str, Any], place: int) -> dict[str, Any]:
    if not spread["count"]:
        return {"caption": f"{label(name)}: no scores", "chart": ""}
    edges, bins = spread["edges"], spread["bins"]
    chart = histogram_chart(edges, bins, f"Scores of {label(name)}", f"scores-{place}", mark=0.0)
    words = f"{label(name)}: mean {number(spread['mean'])}, standard deviation {number(spread['deviation'])}"
    return {"caption": f"{words}, {count(spread['count'])} scores", "chart": chart}
