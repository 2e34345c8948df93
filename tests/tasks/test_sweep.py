"""Cells checked before anything runs, and a sweep's runs in MLflow on a real SQLite store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline_lib.core import store
from pipeline_lib.core.errors import ConfigError, UnknownNameError
from pipeline_lib.presets import PRESETS, preset
from pipeline_lib.sweeps import claim as claims
from pipeline_lib.sweeps.plan import Cell, Setting
from pipeline_lib.sweeps.question import Question, ask
from tasks import sweep_tracking, tracking
from tasks.sweep import ready, rows

SHAPES = preset("shapes")
SETTINGS = {
    "few, 10 %": {"beta": {"times": 2}, "steps": 3},
    "more": {"train": {"flip": 0.5}, "recipe": [{"single": "clip"}]},
}


def question(**more: Any) -> Question:
    return ask("shapes", SHAPES.evaluate, SHAPES.scorers, True, settings=SETTINGS, common={"method": "dpo"}, **more)


def test_a_cell_has_the_settings_of_its_training_and_the_scorers_of_its_labels() -> None:
    few, more = (ready(cell, "shapes") for cell in question(seeds=[4, 5]).cells[:2])
    own = SHAPES.methods["dpo"].train
    assert (few.config.beta, few.config.steps, few.config.seed) == (2 * own.beta, 3, 4)
    assert few.scorers == () and few.source == (None, None, None)
    assert (more.config.flip, more.scorers) == (0.5, ("clip",))


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"method": "dpoo"}, UnknownNameError, "'dpo'"),
        ({"steps": 0}, ConfigError, "steps is 0"),
        ({"train": {"bta": 3}}, UnknownNameError, "bta"),
        ({"recipe": "balancd"}, UnknownNameError, "'balanced'"),
        ({"beta": "high"}, ConfigError, "beta='high'"),
    ],
)
def test_a_cell_that_cannot_be_trained_is_refused(
    parameters: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ready(Cell(Setting("one", {"method": "dpo", **parameters}), 0), "shapes")


RUNNABLE = [(claim, name) for claim in claims.names() for name in PRESETS if claims.load(claim).runs_on(name)]


@pytest.mark.parametrize(("claim", "name"), RUNNABLE)
def test_every_claim_can_be_tested_with_its_presets(claim: str, name: str) -> None:
    chosen, found = preset(name), claims.load(claim)
    judging = chosen.evaluate
    if found.image_seeds:
        judging = replace(judging, seeds=found.image_seeds)
    asked = ask(name, judging, chosen.scorers, name == "shapes", found)
    assert len([ready(cell, name) for cell in asked.cells]) == len(found.settings) * len(found.seeds)
    assert chosen.held_out or not asked.wants("implicit")


@pytest.fixture
def flow_run(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {"prefect.flow_run_id": "f", "prefect.flow_run_name": "a run", "prefect.flow_run_url": "http://p/r"}
    monkeypatch.setattr(tracking, "prefect_tags", lambda: tags)
    monkeypatch.setattr(tracking, "link", lambda *_, **__: None)


@pytest.mark.usefixtures("flow_run")
def test_cells_are_nested_below_their_sweep_and_found_again(server: MlflowClient) -> None:
    asked = question(seeds=[0, 1])
    parent = sweep_tracking.open_sweep(asked)
    assert sweep_tracking.open_sweep(asked) == parent, "an interrupted sweep continues its run"
    assert sweep_tracking.open_sweep(question(seeds=[0, 2])) != parent
    cell = asked.cells[0]
    with pytest.raises(KeyboardInterrupt), sweep_tracking.cell_run(parent, asked, cell) as first:
        assert server.get_run(first).info.status == "RUNNING"
        raise KeyboardInterrupt
    assert server.get_run(first).info.status == "KILLED"
    training = tracking.open_run("dpo-shapes", "t", {"key": "1"}, "", {})
    with sweep_tracking.cell_run(parent, asked, cell) as again:
        sweep_tracking.link_training(again, training)
    found = server.get_run(first)
    assert again == first and found.info.status == "FINISHED" and found.info.run_name == "few, 10 %, seed 0"
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert found.data.tags["prefect.flow_run_id"] == "f", "deploy/recovery.py closes what a dead flow run left"
    assert found.data.tags[sweep_tracking.TRAINING_RUN] == training
    assert found.data.tags[sweep_tracking.TRAINING_PAGE].endswith(f"/runs/{training}")
    own = {k: found.data.params[k] for k in ("setting", "method", "seed", "beta", "steps")}
    assert own == {"setting": "few, 10 %", "method": "dpo", "seed": "0", "beta": "1000.0", "steps": "3"}
    with sweep_tracking.cell_run(parent, asked, asked.cells[1]) as other:
        assert other != first
    assert server.get_run(other).data.params["train.flip"] == "0.5"


@pytest.mark.usefixtures("flow_run")
def test_the_sweep_has_estimates_and_report_and_each_cell_its_means(server: MlflowClient, tmp_path: Path) -> None:
    asked = question(seeds=[0, 1])
    parent = sweep_tracking.open_sweep(asked)
    children = {}
    for cell in asked.cells:
        with sweep_tracking.cell_run(parent, asked, cell) as child:
            children[cell.setting.name, cell.seed] = child
    writer = store.writer(str(tmp_path), "sweep", 1, {})
    dataset = writer.commit([writer.write_bytes(name, b"{}") for name in ("report.json", "report.html")])
    estimates = {
        "win/quality": {"interval": [0.6, 0.5, 0.7], "by_seed": {"0": 0.55, "1": 0.65}},
        "win/clip": {"interval": [0.4, 0.3, 0.5], "by_seed": {"0": 0.4, "1": 0.4}},
    }
    report = {"settings": [{"name": name, "estimates": estimates} for name in SETTINGS]}
    for _ in range(2):
        sweep_tracking.log_sweep(parent, asked, report, dataset, children)
    found = server.get_run(parent)
    assert found.data.metrics["few- 10 -/win/quality"] == 0.6 and found.data.metrics["more/win/quality_low"] == 0.5
    assert "more/win/clip" not in found.data.metrics, "what decides, not everything"
    assert len(server.get_metric_history(parent, "more/win/quality")) == 1, "logged again it is the same"
    assert {file.path for file in server.list_artifacts(parent, "evaluation")} == {
        "evaluation/report.html",
        "evaluation/report.json",
    }
    assert server.get_run(children["more", 1]).data.metrics == {"win/quality": 0.65, "win/clip": 0.4}


def test_the_table_has_intervals_as_text() -> None:
    report = {
        "settings": [
            {"name": "a", "estimates": {"win/true": {"interval": [0.61234, 0.5, 0.7]}}},
            {"name": "b", "estimates": {}},
        ]
    }
    assert rows(report, ["win/true"]) == [{"setting": "a", "win/true": "0.612 [0.500, 0.700]"}, {"setting": "b"}]
