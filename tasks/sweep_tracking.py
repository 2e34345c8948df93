"""A sweep in MLflow: a run of experiment "sweep" with one below it for each model, found again by what was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline_lib.core.digest import digest
from pipeline_lib.core.store import Dataset
from pipeline_lib.sweeps.plan import Cell
from pipeline_lib.sweeps.question import Question
from tasks import evaluation_runs, tracking
from tasks.links import run_url

EXPERIMENT = "sweep"
SWEEP_TAG = "pipeline.sweep_key"
CELL_TAG = "pipeline.sweep_cell"
TRAINING_RUN, TRAINING_PAGE = "pipeline.training_run", "pipeline.training_page"
"""On a cell's run: the run of its training, which other sweeps may share."""


def open_sweep(question: Question) -> str:
    """The id of the sweep's run, running: the one that an earlier attempt opened, else a new one."""
    claim = question.claim
    name = f"{claim.name}-{question.preset}" if claim else f"{question.preset}: {question.title}"
    params = {
        "preset": question.preset,
        "settings": "; ".join(setting.name for setting in question.settings),
        "seeds": list(question.seeds),
        "reference": question.reference,
        "prompts": question.judging.prompts,
        "num_prompts": question.judging.num_prompts,
        "image_seeds": list(question.judging.seeds),
        "measures": ", ".join(question.measures),
    }
    return tracking.open_run(EXPERIMENT, name, {SWEEP_TAG: question.key}, claim.says if claim else "", params)


@contextmanager
def cell_run(parent: str, question: Question, cell: Cell) -> Iterator[str]:
    """The id of the cell's run below the sweep's, running; it ends with the context, as `tracking.closing` has it."""
    key = digest([question.key, cell.setting.name, cell.seed], 16)
    run_id = tracking.open_run(
        EXPERIMENT, cell.name, {CELL_TAG: key}, "", parameters(question, cell), {tracking.PARENT: parent}
    )
    with tracking.closing(run_id):
        yield run_id


def parameters(question: Question, cell: Cell) -> dict[str, Any]:
    """MLflow parameters of a cell: `settings` of the training run one by one."""
    flat: dict[str, Any] = {"setting": cell.setting.name, "method": cell.setting.method, "seed": cell.seed}
    for name, value in cell.parameters(question.preset).items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return {tracking.allowed(name): value for name, value in flat.items()}


def link_training(run_id: str, training_run_id: str) -> None:
    """Have a cell's run lead to that of its training."""
    server = tracking.client()
    experiment = server.get_run(training_run_id).info.experiment_id
    server.set_tag(run_id, TRAINING_RUN, training_run_id)
    server.set_tag(run_id, TRAINING_PAGE, run_url(experiment, training_run_id))


def log_sweep(
    run_id: str, question: Question, report: Mapping[str, Any], dataset: Dataset, cells: Mapping[tuple[str, int], str]
) -> None:
    """Settings' estimates and the report on the sweep's run, and on each cell's the means of its model.

    Args:
        cells: (setting, training seed) -> id of its run.
    """
    numbers: dict[str, float] = {}
    for row in report["settings"]:
        under = tracking.allowed(row["name"])
        for measure in question.headline:
            if estimate := row["estimates"].get(measure):
                point, low, high = estimate["interval"]
                name = f"{under}/{tracking.allowed(measure)}"
                numbers |= {name: point, f"{name}_low": low, f"{name}_high": high}
    evaluation_runs.log_report(run_id, numbers, dataset)
    estimates = {setting["name"]: setting["estimates"] for setting in report["settings"]}
    for (setting, seed), child in cells.items():
        means = {
            tracking.allowed(measure): estimate["by_seed"][str(seed)]
            for measure, estimate in estimates[setting].items()
            if str(seed) in estimate["by_seed"]
        }
        evaluation_runs.log_numbers(child, means, dataset)
