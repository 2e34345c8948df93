"""The registry on a real MLflow server while people change it by hand, and while models are evaluated again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import LifecycleStage
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks import champion, evaluation_runs
from tasks import register as stage
from tasks.evaluate import evaluation_metrics
from tests.integration.registry import CONFIG, NAME, Registry, new_registry

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

EASY = replace(CONFIG, num_prompts=8, steps=2, gate_average=0.01, gate_scorer=0.0)
"""A gate that every model of these passes."""
FEWER = replace(EASY, num_prompts=6)


@pytest.fixture(scope="module")
def registry(stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with (
        pytest.MonkeyPatch.context() as patch,
        temporary_settings({PREFECT_API_URL: stack["PREFECT_API_URL"]}),
    ):
        patch.setenv("MLFLOW_TRACKING_URI", stack["MLFLOW_TRACKING_URI"])
        patch.setenv("PIPELINE_STATE", str(tmp_path_factory.mktemp("state")))
        found = new_registry(tmp_path_factory.mktemp("by-hand"), stack["MLFLOW_TRACKING_URI"])
        yield replace(found, scorers=("clip", "pickscore"))
        mlflow.set_tracking_uri(None)


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any) -> None:
        raise AssertionError("the pipeline is built")

    monkeypatch.setattr(stage, "publish", build)


def test_every_version_keeps_the_numbers_and_the_report_that_judged_it(registry: Registry, tmp_path: Path) -> None:
    first = registry.evaluate("better", EASY)
    one = registry.register(first)
    second = registry.evaluate("better", FEWER)
    assert numbers(first) != numbers(second)
    judged(registry, one, first, tmp_path)
    two = registry.register(second)
    assert two != one and registry.evaluate("better", EASY) == first
    judged(registry, one, first, tmp_path)
    judged(registry, two, second, tmp_path)
    assert registry.aliases() == {"candidate": two, "champion": one}, "a model becomes the champion once"
    reason = registry.tags(two)[champion.GATE_REASON]
    assert reason.startswith(f"Not promoted: this model is the champion already, as version {one}. Passes the gate")

    model_run = registry.mlflow.get_run(source_run(registry, one))
    assert evaluated(model_run.data.metrics) == numbers(first), "the first one's, for MLflow's tables of models"
    assert report_of(registry, model_run.info.run_id, tmp_path) == first["report"]
    runs = registry.mlflow.search_runs(
        [model_run.info.experiment_id], f"tags.`{evaluation_runs.EVALUATION_TAG}` != ''"
    )
    assert {run.data.params["num_prompts"] for run in runs} == {"8", "6"}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {model_run.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.usefixtures("nothing_is_built")
def test_a_champion_withdrawn_by_hand_stays_withdrawn(registry: Registry) -> None:
    one = registry.aliases()["champion"]
    before = registry.tags(one)
    registry.mlflow.delete_registered_model_alias(NAME, "champion")
    assert registry.register(registry.evaluate("better", EASY)) == one
    assert registry.aliases() == {"candidate": one}
    registry.register(registry.evaluate("better", FEWER))
    assert "champion" not in registry.aliases(), "nor by another evaluation"
    assert lasting(registry.tags(one)) == lasting(before)


def test_a_new_model_is_promoted_after_a_withdrawal_and_a_rollback_holds(registry: Registry) -> None:
    one = registry.register(registry.evaluate("better", EASY))
    best = registry.register(registry.evaluate("best", EASY))
    assert registry.aliases() == {"candidate": best, "champion": best}
    registry.mlflow.set_registered_model_alias(NAME, "champion", one)
    again = registry.register(registry.evaluate("best", EASY))
    assert registry.aliases() == {"candidate": again, "champion": one}
    reason = registry.tags(again)[champion.GATE_REASON]
    assert f"was the champion before, as version {best}" in reason and "set the alias by hand" in reason
    assert f"Passes the gate against champion (version {one})" in reason


@pytest.mark.usefixtures("nothing_is_built")
def test_a_deleted_experiment_comes_back_with_its_runs(registry: Registry) -> None:
    before = registry.evaluate("better", EASY)
    version = registry.register(before)
    experiment = registry.mlflow.get_experiment_by_name(NAME)
    assert experiment is not None
    registry.mlflow.delete_experiment(experiment.experiment_id)
    assert registry.evaluate("better", EASY) == before and registry.register(before) == version
    restored = registry.mlflow.get_experiment_by_name(NAME)
    assert restored is not None and restored.lifecycle_stage == LifecycleStage.ACTIVE
    assert registry.mlflow.get_run(source_run(registry, version)).info.lifecycle_stage == LifecycleStage.ACTIVE


def judged(registry: Registry, version: str, evaluation: dict[str, Any], tmp_path: Path) -> None:
    """Files, numbers and report behind a version are those of the evaluation that judged it."""
    held = registry.mlflow.get_model_version(NAME, version)
    model = registry.mlflow.get_logged_model(held.source.removeprefix("models:/"))
    assert evaluated({m.key: m.value for m in model.metrics}) == numbers(evaluation)
    run = registry.mlflow.get_run(held.tags[stage.EVALUATION_RUN])
    assert evaluated(run.data.metrics) == numbers(evaluation)
    assert report_of(registry, run.info.run_id, tmp_path) == evaluation["report"]
    page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/evaluation/report.html"
    assert page in held.description


def numbers(evaluation: dict[str, Any]) -> dict[str, float]:
    return evaluation_metrics(evaluation["report"], NAME)


def evaluated(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.startswith("eval/")}


def report_of(registry: Registry, run_id: str, tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / run_id
    folder.mkdir(exist_ok=True)
    file = registry.mlflow.download_artifacts(run_id, "evaluation/report.json", str(folder))
    return dict(json.loads(Path(file).read_text()))


def source_run(registry: Registry, version: str) -> str:
    source = registry.mlflow.get_model_version(NAME, version).source
    return str(registry.mlflow.get_logged_model(source.removeprefix("models:/")).source_run_id)


def lasting(tags: dict[str, str]) -> dict[str, str]:
    """Tags but for those that lead to the last flow run."""
    return {name: value for name, value in tags.items() if not name.startswith("prefect.")}
