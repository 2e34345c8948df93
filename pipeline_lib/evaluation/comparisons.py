"""Every comparison of an evaluation, as the JSON of its report: each model with the reference, and with its rival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline_lib.evaluation.examples import Scored
from pipeline_lib.evaluation.gate import Gate, judge
from pipeline_lib.evaluation.report import comparison_numbers, triple
from pipeline_lib.evaluation.winrates import compare, compare_by_category, mean_difference


def compare_models(
    sides: Mapping[str, Scored],
    about: Mapping[str, Any],
    prompts: Sequence[str],
    categories: Sequence[str],
    diversity: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """The keys `comparisons`, `win_rate` and `gate` of `report.json`; the gate is asked where the settings have it.

    Args:
        sides: every model's scores.
        about: `report.json` so far: `reference`, `champion` and `settings` are read.
        prompts: prompt id of each row.
        categories: category of each row, empty where the prompt set has none.
        diversity: model -> mean distance (n,) of each image from the others of its prompt; may be empty.
    """
    reference, settings = about["reference"], about["settings"]
    rival, ties = about["champion"] or reference, settings["tie_spread"]
    gate = Gate(settings["gate_average"], settings["gate_scorer"]) if "gate_average" in settings else None
    comparisons, win_rates, verdicts = {}, {}, {}
    for name in (name for name in sides if name != reference):
        ours, theirs = sides[name].scores, sides[reference].scores
        compared = compare(ours, theirs, prompts, tie_spread=ties)
        numbers = comparison_numbers(compared)
        if categories:
            parts = compare_by_category(ours, theirs, prompts, categories, tie_spread=ties)
            numbers["categories"] = {category: comparison_numbers(part) for category, part in parts.items()}
        if diversity:
            numbers["diversity"] = triple(mean_difference(diversity[name], diversity[reference], prompts))
        comparisons[name] = numbers
        rates = {scorer: row["win_rate"] for scorer, row in numbers["scorers"].items()}
        win_rates[name] = {**rates, "average": numbers["average"]}
        if gate and name != rival:
            if rival != reference:
                compared = compare(ours, sides[rival].scores, prompts, tie_spread=ties)
            verdict = judge(compared, rival, gate)
            verdicts[name] = {**verdict.as_json(), "comparison": comparison_numbers(compared)}
    return {"comparisons": comparisons, "win_rate": win_rates, "gate": verdicts}
