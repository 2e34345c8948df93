"""The report of an evaluation: every number and setting as JSON, and one self-contained HTML page made from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline_lib.evaluation.background import background_content
from pipeline_lib.evaluation.examples import Example
from pipeline_lib.evaluation.significance import power
from pipeline_lib.evaluation.statistics import CONFIDENCE, FEW, RESAMPLES, Interval
from pipeline_lib.evaluation.winrates import TRUE, Comparison
from pipeline_lib.reports import Curve, Whisker, curve_chart, label, verdict, whisker_chart
from pipeline_lib.reports import render as render_page

EXAMPLES = 12
"""Examples shown at each end (worst regressions, best wins), shared out among challengers; twice as many at random."""

CURVES = {"loss": "Loss", "implicit_accuracy": "Implicit accuracy", "margin": "Margin"}
"""Columns of the trainer's metrics.jsonl that are drawn, with their titles."""


def comparison_numbers(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON: intervals become [point, low, high]."""
    scorers = {}
    for name, rate in comparison.scorers.items():
        row = asdict(rate)
        scorers[name] = {**row, "win_rate": triple(rate.win_rate), "difference": triple(rate.difference)}
    return {
        "rows": comparison.rows,
        "prompts": comparison.prompts,
        "average": triple(comparison.average),
        "scorers": scorers,
    }


def triple(interval: Interval) -> list[float]:
    """An interval as JSON: [point, low, high]."""
    return [interval.point, interval.low, interval.high]


def statistics_used(prompts: int, tie_spread: float, tower: str | None = None, draws: int = 0) -> dict[str, Any]:
    """How the numbers were made, in words, for `report.json`; `tower`: the scorer whose embeddings tell diversity;
    `draws`: at which the models judged held-out pairs."""
    near = f", or differ by at most {tie_spread:g} of the scorer's standard deviation" if tie_spread else ""
    words = {
        "win_rate": "(wins + ties / 2) / rows; a row is one (prompt, seed), the same initial noise for both models",
        "interval": (
            f"{CONFIDENCE:.0%} bootstrap over whole prompts, {RESAMPLES} resamples, seed 0, expanded percentiles; at "
            f"least as wide as Wilson's where fewer than {FEW:g} prompts dissent"
        ),
        "tie": f"scores that are equal{near}",
        "p_value": (
            "exact two-sided sign test over prompts: each counts once, won or lost by the majority of its seeds, tied "
            "ones left out; p_holm is Holm-corrected over the scorers"
        ),
        "average": "mean over the scorers of each row's outcome; the true utility is not among them",
        "power": power(prompts).sentence,
    }
    if tower:
        words["diversity"] = f"mean cosine distance between {label(tower)}'s embeddings of one prompt's images"
    if draws:
        words["implicit_accuracy"] = (
            "share of the held-out pairs decided by people in which the model's implicit reward (Diffusion-DPO) is "
            f"higher for the preferred image: mean over {draws} timesteps with one noise each, the same for both "
            "images, against the base it was trained from; pairs with prompts that were trained on are left out"
        )
    return words


def training_curves(metrics: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """A run's curves from its metrics.jsonl objects. Where a resumed run logged a step twice, the last counts."""
    by_step = {int(row["step"]): row for row in metrics if "step" in row}
    steps = sorted(by_step)
    curves = []
    for key, title in CURVES.items():
        values = {step: float(by_step[step][key]) for step in steps if by_step[step].get(key) is not None}
        finite = {step: value for step, value in values.items() if math.isfinite(value)}
        if finite:
            curves.append(Curve(title, list(finite), list(finite.values())))
    return curves


def render(
    report: Mapping[str, Any],
    examples: Mapping[str, Sequence[Example]],
    curves: Mapping[str, Sequence[Curve]],
) -> str:
    """The HTML page.

    Args:
        report: the content of `report.json`.
        examples: challenger -> what `examples.choose` chose.
        curves: challenger -> curves of its training run; may lack challengers.
    """
    names = list(report["comparisons"])
    sections = [_section(report, name, number, curves.get(name, ())) for number, name in enumerate(names)]
    reference = report["reference"]
    return render_page(
        __package__,
        "report.html.j2",
        report=report,
        sections=sections,
        examples=examples,
        reference=reference,
        **background_content(report),
    )


def _section(report: Mapping[str, Any], name: str, number: int, curves: Sequence[Curve]) -> dict[str, Any]:
    comparison = report["comparisons"][name]
    scorers = comparison["scorers"]
    summaries = {TRUE: scorers[TRUE]["win_rate"]} if TRUE in scorers else {}
    judges = {scorer: row["win_rate"] for scorer, row in scorers.items() if scorer != TRUE}
    if len(judges) > 1:
        summaries["average"] = comparison["average"]
    headline = next(iter(summaries), None) or next(iter(judges))
    point, low, high = summaries.get(headline) or judges[headline]
    rows = [
        Whisker(label(name), point, low, high, strong=name in summaries)
        for name, (point, low, high) in [*summaries.items(), *judges.items()]
    ]
    title = f"Win rate of {name} over {report['reference']}, by scorer, with 95% intervals"
    return {
        "name": name,
        "number": number,
        "comparison": comparison,
        "headline": headline,
        "rate": (point, low, high),
        "verdict": verdict(low, high),
        "worse_by": [label(scorer) for scorer, rate in judges.items() if verdict(rate[1], rate[2]) == "worse"],
        "verdicts": {scorer: verdict(*row["win_rate"][1:]) for scorer, row in scorers.items()},
        "order": [*(k for k in summaries if k in scorers), *judges],
        "summaries": list(summaries) or [headline],
        "chart": whisker_chart(rows, title, f"rates-{number}"),
        "curves": [
            {"label": curve.label, "chart": curve_chart(curve, f"curve-{number}-{i}")}
            for i, curve in enumerate(curves)
        ],
    }
