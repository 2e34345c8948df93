"""Two runs of the main job, of the same size and started at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline_lib.core.store import MANIFEST, open_dataset, verify
from tasks.tracking import KEY_TAG
from tests.integration.deployments import Deployments

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

SIZE = {"limit": 1000, "steps": 40, "num_prompts": 32, "seed": 17}


def test_both_finish_with_one_set_of_datasets_one_mlflow_run_and_one_version(
    deployments: Deployments, tmp_path: Path
) -> None:

    def run(_: int) -> dict[str, Any]:
        return deployments.run("align/shapes", store=str(tmp_path), **SIZE)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(run, range(2)))
    assert [one["state_type"] for one in both] == ["COMPLETED"] * 2, [deployments.logs(one) for one in both]
    assert max(one["start_time"] for one in both) < min(one["end_time"] for one in both), "they ran side by side"
    first, second = (deployments.stages(one) for one in both)
    for stage, row in first.items():
        assert (row["uri"], row["digest"]) == (second[stage]["uri"], second[stage]["digest"]), stage

    folders = [path for path in tmp_path.glob("*/*") if path.is_dir()]
    for folder in folders:
        assert (folder / MANIFEST).exists(), f"{folder} is unfinished"
        verify(open_dataset(str(folder)))
    model = open_dataset(first["train"]["uri"])
    assert [path.name for path in tmp_path.glob("model/*")] == [model.key]
    assert not list(Path(deployments.env["PIPELINE_STATE"], "scratch").glob("*")), "no checkpoints are left"

    mlflow = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    experiment = mlflow.get_experiment_by_name("balanced-shapes")
    assert experiment is not None
    (logged,) = mlflow.search_runs([experiment.experiment_id], f"tags.`{KEY_TAG}` = '{model.key}'")
    assert logged.info.status == "FINISHED"
    curve = [metric.step for metric in mlflow.get_metric_history(logged.info.run_id, "train/loss")]
    assert curve == list(range(1, SIZE["steps"] + 1))
    for name in ("eval/win_rate/average", "eval/mean/clip"):
        assert len({metric.value for metric in mlflow.get_metric_history(logged.info.run_id, name)}) == 1
    versions = mlflow.search_model_versions("name = 'balanced-shapes'")
    ours = [version for version in versions if version.tags["pipeline.model_digest"] == model.digest]
    assert [f"models:/balanced-shapes/{version.version}" for version in ours] == [first["register"]["uri"]]
    models = mlflow.search_logged_models([experiment.experiment_id])
    assert len([one for one in models if one.source_run_id == logged.info.run_id]) == 1
