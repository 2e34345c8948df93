"""A sweep's tasks: its question checked, held-out pairs judged by its models, and what is concluded from them all."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from pipeline_lib.core.config import BaseModel, EvaluateConfig, TrainConfig
from pipeline_lib.core.store import open_dataset
from pipeline_lib.evaluation.implicit import encoded_held_out, implicit_rewards
from pipeline_lib.generation.prompts import load_prompts
from pipeline_lib.labels.recipe import check_recipe
from pipeline_lib.labels.self_training import runnable
from pipeline_lib.labels.steps import SELF_TRAINING
from pipeline_lib.presets import alignment
from pipeline_lib.sweeps import stage
from pipeline_lib.sweeps.claim import Claim
from pipeline_lib.sweeps.plan import Cell
from pipeline_lib.sweeps.question import Question, ask
from pipeline_lib.sweeps.stage import TrainedCell, read_report
from tasks import evaluation_runs, sweep_tracking
from tasks.links import link
from tasks.outcome import Outcome, finish
from tasks.progress import reporter
from tasks.settings import IO_TASK
from tasks.training_settings import check_lora_targets, training_config

OWN = ("steps", "learning_rate", "beta", "adapter")
"""A setting's parameters that are fields of the training run."""


@dataclass(frozen=True)
class Ready:
    """A cell that was checked: its parameters for the preset, its training run, and the scorers its labels need."""

    cell: Cell
    parameters: Mapping[str, Any]
    config: TrainConfig
    scorers: tuple[str, ...]

    @property
    def source(self) -> tuple[str | None, str | None, int | None]:
        """Source, split and limit of the pairs; None takes the preset's."""
        return self.parameters.get("source"), self.parameters.get("split"), self.parameters.get("limit")


@dataclass(frozen=True)
class Finished:
    """A cell's model dataset, its base, and the ids of its MLflow runs: the sweep's and the training's."""

    cell: Cell
    model: str
    base: BaseModel
    pairs: str
    run_id: str
    training_run_id: str


@task(name="plan-sweep", **IO_TASK)
def plan_sweep(
    preset: str,
    judging: EvaluateConfig,
    scorers: Sequence[str],
    heldout: str | None,
    claim: Claim | None,
    asked: Mapping[str, Any],
) -> tuple[Question, list[Ready]]:
    """The question and its cells, with every check that needs no training; `asked` are parameters of `ask`."""
    held_out = open_dataset(heldout) if heldout else None
    prompts = load_prompts(judging.prompts, judging.num_prompts, held_out)
    question = ask(preset, judging, scorers, prompts.truth is not None, claim, **asked)
    stage.check_held_out(question, held_out)
    return question, [ready(cell, preset) for cell in question.cells]


def check_sweep(
    preset: str, judging: EvaluateConfig, scorers: Sequence[str], claim: Claim | None, asked: Mapping[str, Any]
) -> list[Ready]:
    """The cells of `plan_sweep`, with the checks that need no held-out pairs either."""
    return [ready(cell, preset) for cell in ask(preset, judging, scorers, True, claim, **asked).cells]


def ready(cell: Cell, preset: str) -> Ready:
    """A cell with its parameters checked; raises ConfigError, LabelError or UnknownNameError, naming the cell."""
    parameters, method = cell.parameters(preset), cell.setting.method
    fields = {name: parameters.get(name) for name in OWN}
    config = training_config(preset, method, parameters.get("train"), seed=cell.seed, **fields)  # type: ignore[arg-type]
    check_lora_targets(preset, parameters.get("base"), config)
    recipe = parameters.get("recipe") or alignment(preset, method).labels
    needed = check_recipe(recipe, (), runnable())
    # What trained models prefer is no score of images: the training flow asks them itself.
    return Ready(cell, parameters, config, tuple(name for name in needed if name != SELF_TRAINING))


@task(name="encode-held-out", **IO_TASK)
def encode_held_out(store: str, base: BaseModel, heldout: str, config: EvaluateConfig) -> str:
    """Held-out pairs as the models of one base see them: once for all of them."""
    return encoded_held_out(store, base, open_dataset(heldout), config).uri


@task(name="judge-held-out", **IO_TASK)
def judge_held_out(store: str, model: str, base: BaseModel, heldout: str, config: EvaluateConfig) -> str:
    """One model's implicit rewards on held-out pairs."""
    return implicit_rewards(store, open_dataset(model), base, open_dataset(heldout), config).uri


@task(name="conclude", **IO_TASK)
def conclude(
    store: str,
    question: Question,
    cells: Sequence[Finished],
    weights: str,
    heldout: str | None,
    device: str,
    run_id: str,
) -> Outcome:
    """Outcomes, estimates and report of all cells, in the store and in MLflow. What models painted and scorers said
    on the kind of device `device` is taken from the store."""
    started = time.time()
    dataset = stage.sweep(
        store,
        question,
        [TrainedCell(one.cell, open_dataset(one.model), one.base) for one in cells],
        weights,
        open_dataset(heldout) if heldout else None,
        reporter("conclude", "models"),
        device=device,
    )
    report = read_report(dataset)
    for finding in report["findings"]:
        get_run_logger().info("sweep: %s: %s", finding["says"], finding["verdict"])
    create_table_artifact(
        rows(report, question.headline), key="sweep", description=f"{report['title']}, 95% intervals"
    )
    sweep_tracking.log_sweep(
        run_id, question, report, dataset, {(one.cell.setting.name, one.cell.seed): one.run_id for one in cells}
    )
    link(evaluation_runs.report_url(run_id), "report.html", key="report")
    return finish("sweep", dataset, started)


def rows(report: Mapping[str, Any], measures: Sequence[str]) -> list[dict[str, Any]]:
    """A table of settings: each measure with its interval, as text."""
    table = []
    for setting in report["settings"]:
        row = {"setting": setting["name"]}
        for measure in measures:
            if estimate := setting["estimates"].get(measure):
                point, low, high = estimate["interval"]
                row[measure] = f"{point:.3f} [{low:.3f}, {high:.3f}]"
        table.append(row)
    return table
