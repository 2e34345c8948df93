"""A rate copied from a paper without its scaling: the run ends well, and says everywhere that it did nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline_lib.core.store import Dataset, open_dataset
from tests.integration.deployments import SMALL, Deployments

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1500)]

STEPS = 40
WORDS = r"The weights do not move: learning rate 1e-8 moves weights by \d\.\d+e-7 of their length in 40 steps"


def written(deployments: Deployments, run: dict[str, Any], stage: str) -> Dataset:
    """The dataset of a stage that a flow run published."""
    query = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}, "key": {"any_": [f"{stage}-dataset"]}}}
    (artifact,) = deployments.post("artifacts/filter", query)
    return open_dataset(artifact["data"].splitlines()[1].strip("`"))


def trained(deployments: Deployments, **parameters: Any) -> tuple[dict[str, Any], Dataset, Any]:
    """A flow run of `train-balanced`, its model and its MLflow run."""
    run = deployments.run("train-balanced/shapes", limit=SMALL["limit"], steps=STEPS, **parameters)
    assert run["state_type"] == "COMPLETED", deployments.logs(run)
    model, client = written(deployments, run, "train"), MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("balanced-shapes")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`pipeline.model_key` = '{model.key}'")
    assert [m.step for m in client.get_metric_history(found.info.run_id, "train/relative_change")] == [20, STEPS]
    return run, model, found


def report(deployments: Deployments, aligned: dict[str, Any], model: Dataset) -> tuple[str, dict[str, Any], str]:
    """An evaluation of a model: the flow's log, the numbers and the page."""
    pairs = deployments.stages(aligned)["ingest"]["uri"]
    run = deployments.run("evaluate/shapes", model=model.uri, pairs=pairs, num_prompts=SMALL["num_prompts"])
    assert run["state_type"] == "COMPLETED", deployments.logs(run)
    judged = written(deployments, run, "evaluate")
    with judged.open("report.json") as numbers, judged.open("report.html") as page:
        return deployments.logs(run), dict(json.load(numbers)), page.read().decode()


def test_a_rate_before_scaling_is_named_in_log_mlflow_and_report(
    deployments: Deployments, aligned: dict[str, Any]
) -> None:
    deployments.register("train-balanced/shapes", "evaluate/shapes")
    run, model, logged = trained(deployments, learning_rate=1e-8)
    assert re.search(WORDS, deployments.logs(run))
    assert re.match(WORDS, logged.data.tags["pipeline.weights_unmoved"])
    assert re.fullmatch(f"{WORDS}.*\n\nPrefect: .*", logged.data.tags["mlflow.note.content"])
    assert 0 < logged.data.metrics["train/relative_change"] < 1e-6
    log, numbers, page = report(deployments, aligned, model)
    assert re.search(WORDS, log) and re.match(WORDS, numbers["unmoved"]["balanced-shapes"]) and re.search(WORDS, page)


def test_the_presets_rate_is_not_warned_of(deployments: Deployments, aligned: dict[str, Any]) -> None:
    deployments.register("train-balanced/shapes", "evaluate/shapes")
    run, model, logged = trained(deployments)
    assert "do not move" not in deployments.logs(run)
    assert "pipeline.weights_unmoved" not in logged.data.tags
    assert logged.data.tags["mlflow.note.content"].startswith("Prefect: ")
    assert logged.data.metrics["train/relative_change"] > 5e-4
    with model.open("metrics.jsonl") as file:
        assert b"relative_change" not in file.read(), "the dataset has the bytes that it had before this was measured"
    log, numbers, page = report(deployments, aligned, model)
    assert "do not move" not in log + page and "unmoved" not in numbers
