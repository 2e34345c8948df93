"""`report.json` of a sweep: everything that its page shows, and no time of day."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from pipeline_lib.core.lineage import lineage
from pipeline_lib.core.store import Dataset
from pipeline_lib.sweeps.estimates import STATISTICS, settings_table
from pipeline_lib.sweeps.measures import measure_of
from pipeline_lib.sweeps.plan import Cell
from pipeline_lib.sweeps.question import Question
from pipeline_lib.sweeps.verdict import judge
from pipeline_lib.training.launch.job import read_metrics

CURVES = ("loss", "implicit_accuracy")
POINTS = 200
"""At most, of a curve; steps are averaged in equal groups."""


def summary(
    question: Question,
    about: Mapping[str, Any],
    outcomes: pl.DataFrame,
    models: Sequence[tuple[Cell, Dataset]],
    inputs: Sequence[Dataset],
) -> dict[str, Any]:
    """The report.

    Args:
        about: what the stage knows of the question: title, claim, preset, seeds, judging, prompts, scorers.
        outcomes: of all models (`outcomes.SCHEMA`).
        models: every cell's model.
        inputs: what the outcomes were read from, for the lineage.

    Returns:
        `about` with `measures` {name: words, null, share}; `settings`, each with parameters, training settings,
        `estimates`, `against` the reference and `models` by seed; `findings` with their verdicts; `curves` by setting
        and metric, [[step, mean over the seeds], ...]; `statistics` in words; `lineage`.

    Raises:
        UnknownNameError: no model has a measure.
        EvaluationError, ConfigError: as `estimates.settings_table` and `verdict.judge`.
    """
    estimated = settings_table(outcomes, question.measures, question.reference)
    of = {setting.name: [(c.seed, m) for c, m in models if c.setting == setting] for setting in question.settings}
    claim = {key: value for key, value in about["claim"].items() if key != "findings"} if about["claim"] else None
    return {
        **about,
        "claim": claim,
        "measures": {name: _measure(name) for name in question.measures},
        "settings": [
            {
                "name": setting.name,
                "method": setting.method,
                "parameters": setting.resolved(question.preset),
                "train": {k: v for k, v in of[setting.name][0][1].config["train"].items() if k != "seed"},
                **estimated[setting.name],
                "models": {str(seed): model.path() for seed, model in of[setting.name]},
            }
            for setting in question.settings
        ],
        "findings": [judge(outcomes, one).as_json() for one in question.claim.findings] if question.claim else [],
        "curves": {name: curves([read_metrics(model) for _, model in own]) for name, own in of.items()},
        "statistics": {**STATISTICS, "tie": _ties(question.judging.tie_spread)},
        "lineage": [{"uri": dataset.path(), "digest": dataset.digest} for dataset in lineage(inputs)],
    }


def curves(runs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[list[float]]]:
    """Metric of CURVES -> [[step, mean over the runs], ...] at the steps that all runs have a finite value for."""
    found = {}
    for metric in CURVES:
        by_step = [
            {int(row["step"]): float(row[metric]) for row in run if row.get(metric) is not None} for run in runs
        ]
        steps = sorted(set.intersection(*map(set, by_step)))
        points = [(step, math.fsum(run[step] for run in by_step) / len(by_step)) for step in steps]
        points = [(step, value) for step, value in points if math.isfinite(value)]
        size = max(1, -(-len(points) // POINTS))
        groups = [points[start : start + size] for start in range(0, len(points), size)]
        if groups:
            found[metric] = [[group[-1][0], math.fsum(value for _, value in group) / len(group)] for group in groups]
    return found


def judging_settings(question: Question, prompts: str, batch_size: int) -> dict[str, Any]:
    """How models were painted and compared. `batch_size` is the images', which on the CPU is not the settings'."""
    left_out = ("gate_",) if question.wants("implicit") else ("gate_", "implicit_")
    settings = {k: v for k, v in asdict(question.judging).items() if not k.startswith(left_out)}
    return {**settings, "seeds": list(question.judging.seeds), "prompts": prompts, "batch_size": batch_size}


def _measure(name: str) -> dict[str, Any]:
    measure = measure_of(name)
    return {"words": measure.words, "null": measure.null, "share": measure.share}


def _ties(spread: float) -> str:
    near = f", or differ by at most {spread:g} of the scorer's standard deviation" if spread else ""
    return f"A win counts 1, a tie 0.5; scores tie that are equal{near}."
